-- agg_calendars, agg_refresh_calendar, agg_set_calendar: which calendars are followed, their sessions, a symbol's
-- choice.
-- Called by: AggGateway.calendars, refresh_calendar, set_calendar. Needs: trading_calendars, tasks, dirty_ranges.

create function public._agg_closed_hours(p_calendar text)
returns tstzmultirange language sql stable set search_path = '' as $$
  select coalesce(tstzmultirange(tstzrange(c.from_utc, c.to_utc))
                  - coalesce((select range_agg(tstzrange(s.open_utc, s.close_utc)) from public.trading_sessions s
                               where s.calendar = c.calendar), '{}'), '{}')
    from public.trading_calendars c where c.calendar = p_calendar and c.from_utc is not null
  union all select '{}' limit 1
$$;
comment on function public._agg_closed_hours(text) is 'When a calendar''s market is closed, as far as its sessions are known.';
revoke execute on function public._agg_closed_hours(text) from public, anon, authenticated, service_role;

-- Windows in which other bars are expected now. Those that the future will build are built with what is known then.
create function public._agg_log_hours(p_symbols text[], p_hours tstzmultirange[])
returns bigint language plpgsql volatile set search_path = '' set timezone = 'UTC' as $$
declare
  ranges bigint;
begin
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc, reason)
  select touched.canonical_symbol, touched.timeframe, lower(run), upper(run), 'other trading hours'
    from (select t.canonical_symbol, t.timeframe,
                 range_agg(tstzrange(date_bin(t.length, lower(span), t.origin_utc),
                                     date_bin(t.length, upper(span) - interval '1 microsecond', t.origin_utc) + t.length)) as runs
            from unnest(p_symbols, p_hours) as changed (canonical_symbol, hours)
            join public.agg_tasks t on t.canonical_symbol = changed.canonical_symbol
           cross join unnest(changed.hours * tstzmultirange(tstzrange(
                   t.first_window, greatest(t.first_window, t.cursor_utc, now()) + t.length))) span
           group by t.canonical_symbol, t.timeframe) touched, unnest(touched.runs) run;
  get diagnostics ranges = row_count;
  return ranges;
end $$;
comment on function public._agg_log_hours(text[], tstzmultirange[]) is
  'Marks the windows of symbols that have other trading hours now; how many ranges. The next tick rebuilds those that are built.';
revoke execute on function public._agg_log_hours(text[], tstzmultirange[]) from public, anon, authenticated, service_role;

create function public._agg_calendar_changed() returns trigger
language plpgsql security definer set search_path = '' set timezone = 'UTC' as $$
declare
  symbol constant text := coalesce(new.canonical_symbol, old.canonical_symbol);
  since timestamptz := '-infinity';
  other text;
  hours tstzmultirange[];
begin
  if tg_table_name = 'core_asset_registry_all' then
    other := old.trading_calendar;
  elsif tg_op = 'UPDATE' then
    raise exception 'a calendar change of % cannot be edited', symbol using errcode = 'AG003', hint = 'Call agg_set_calendar.';
  else
    since := coalesce(new.from_utc, old.from_utc);
    other := coalesce((select c.trading_calendar from public.trading_calendar_changes c
                        where c.canonical_symbol = symbol and c.from_utc < since order by c.from_utc desc limit 1),
                      (select a.trading_calendar from public.core_asset_registry_all a where a.canonical_symbol = symbol));
  end if;
  select array_agg(public._agg_closed_hours(calendar)
                   * tstzmultirange(tstzrange(since, coalesce((
                       select min(c.from_utc) from public.trading_calendar_changes c
                        where c.canonical_symbol = symbol and c.from_utc > since), 'infinity'))))
    into hours from unnest(array[other, coalesce(new.trading_calendar, old.trading_calendar)]) calendar;
  perform public._agg_log_hours(array[symbol], array[(hours[1] - hours[2]) + (hours[2] - hours[1])]);
  return null;
end $$;
comment on function public._agg_calendar_changed() is 'Trigger: marks the windows in which a symbol expects other bars than before.';
revoke execute on function public._agg_calendar_changed() from public, anon, authenticated, service_role;
create trigger agg_calendar_changed after update of trading_calendar on public.core_asset_registry_all
  for each row when (old.trading_calendar is distinct from new.trading_calendar) execute function public._agg_calendar_changed();
create trigger agg_calendar_changed after insert or update or delete on public.trading_calendar_changes
  for each row execute function public._agg_calendar_changed();

create function public.agg_set_calendar(p_symbol text, p_calendar text, p_from_utc timestamptz default null)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
declare
  dropped integer;
begin
  perform from public.core_asset_registry_all a where a.canonical_symbol = p_symbol
     for no key update;  -- an ingester that writes bars of the symbol goes on, and is not waited for
  if not found then
    raise exception 'unknown symbol: %', coalesce(p_symbol, 'null') using errcode = 'AG002', hint = 'Register it with agg_register_asset.';
  elsif p_from_utc <> date_bin('24 hours', p_from_utc, '2001-01-01 00:00:00+00') or not isfinite(p_from_utc) then
    raise exception 'the calendar of % cannot change at %', p_symbol, p_from_utc using errcode = 'AG003',
      hint = 'Give a midnight UTC, so that no window has two calendars; or none: then it holds for all of history.';
  end if;
  perform public._agg_known_calendar(p_calendar, p_symbol);
  -- What was to follow later is dropped: the newest word counts, from its date on.
  delete from public.trading_calendar_changes c
   where c.canonical_symbol = p_symbol and c.from_utc >= coalesce(p_from_utc, '-infinity');
  get diagnostics dropped = row_count;
  if p_from_utc is null then
    update public.core_asset_registry_all a set trading_calendar = p_calendar
     where a.canonical_symbol = p_symbol and a.trading_calendar <> p_calendar;
  else
    insert into public.trading_calendar_changes (canonical_symbol, from_utc, trading_calendar) values (p_symbol, p_from_utc, p_calendar);
  end if;
  return jsonb_build_object('success', true, 'changes_dropped', dropped);
end $$;
comment on function public.agg_set_calendar(text, text, timestamptz) is
  'From p_from_utc (a midnight UTC; null: always) the symbol follows this calendar; later changes are dropped. Bars concerned are rebuilt. AG002: unknown symbol, AG003: unknown calendar.';
revoke execute on function public.agg_set_calendar(text, text, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_set_calendar(text, text, timestamptz) to service_role;

create function public.agg_refresh_calendar(p_calendar jsonb, p_dry_run boolean default true)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
declare
  name constant text := p_calendar ->> 'calendar';
  begins constant timestamptz := (p_calendar ->> 'from_utc')::timestamptz;
  ends constant timestamptz := (p_calendar ->> 'to_utc')::timestamptz;
  dry_run constant boolean := coalesce(p_dry_run, true);
  opens timestamptz[];
  closes timestamptz[];
  known public.trading_calendars;
  before tstzmultirange;
  result jsonb;
begin
  select * into known from public.trading_calendars c where c.calendar = name for no key update;
  if known.calendar is null or name = '24x7' then
    raise exception '% is no calendar that has sessions', coalesce(name, 'null') using errcode = 'AG003',
      hint = 'Table trading_calendars lists all that have; 24x7 needs none.';
  end if;
  select array_agg((s ->> 0)::timestamptz order by nth), array_agg((s ->> 1)::timestamptz order by nth) into opens, closes
    from jsonb_array_elements(p_calendar -> 'sessions') with ordinality given (s, nth);
  if opens is null or begins is null or ends is null or begins >= ends
     or exists (select from unnest(opens, closes, opens[2:]) s (open_utc, close_utc, next_utc)
                 where not coalesce(s.open_utc < s.close_utc and s.close_utc > begins and s.open_utc < ends, false)
                    or s.close_utc > s.next_utc) then
    raise exception 'the sessions of % from % to % are no sessions, or not in order', name, begins, ends using errcode = 'AG003',
      hint = 'Pass {calendar, from_utc, to_utc, version, sessions: [[open_utc, close_utc], ...]} with every session that touches the range.';
  end if;
  if begins > known.to_utc or ends < known.from_utc then
    raise exception 'the sessions of % are known from % to %, which % to % does not touch', name, known.from_utc, known.to_utc, begins, ends
      using errcode = 'AG003', hint = 'Fill the years between as well; else they would count as closed.';
  end if;
  -- Sessions that touch another coverage than this one are not spoken of, and stay.
  with stored as (
    select s.open_utc, s.close_utc from public.trading_sessions s
     where s.calendar = name and s.close_utc > begins and s.open_utc < ends
  ), fresh as (
    select * from unnest(opens, closes) as s (open_utc, close_utc)
  ), changed as (
    select 'removed' as change, gone.* from (select * from stored except select * from fresh) gone
    union all
    select 'added', came.* from (select * from fresh except select * from stored) came
  )
  select jsonb_build_object(
           'calendar', name, 'sessions', cardinality(opens),
           'added', count(*) filter (where change = 'added'), 'removed', count(*) filter (where change = 'removed'),
           -- What was known already and is otherwise now: of a longer or a first coverage a list would say nothing.
           'changes', coalesce(jsonb_agg(jsonb_build_object('change', change, 'open_utc', open_utc, 'close_utc', close_utc)
                                         order by open_utc, change desc)
                                 filter (where close_utc > known.from_utc and open_utc < known.to_utc), '[]'))
    into result from changed;
  before := public._agg_closed_hours(name);
  if not dry_run then
    delete from public.trading_sessions s
     where s.calendar = name and s.close_utc > begins and s.open_utc < ends
       and not exists (select from unnest(opens, closes) as f (open_utc, close_utc)
                        where f.open_utc = s.open_utc and f.close_utc = s.close_utc);
    insert into public.trading_sessions (calendar, open_utc, close_utc)
    select name, f.open_utc, f.close_utc from unnest(opens, closes) as f (open_utc, close_utc) on conflict do nothing;
    update public.trading_calendars c
       set from_utc = least(known.from_utc, begins), to_utc = greatest(known.to_utc, ends),
           version = p_calendar ->> 'version', refreshed_at = now()
     where c.calendar = name;
    select result || jsonb_build_object('ranges_touched', public._agg_log_hours(
             array_agg(f.canonical_symbol), array_agg(f.hours * tstzmultirange(tstzrange(f.from_utc, f.to_utc)))))
      into result
      from (select c.*, (before - now_closed) + (now_closed - before) as hours
              from public.agg_symbol_calendars c cross join public._agg_closed_hours(name) now_closed
             where c.calendar = name) f;
  end if;
  return result;
end $$;
comment on function public.agg_refresh_calendar(jsonb, boolean) is
  'Sessions {calendar, from_utc, to_utc, version, sessions: [[open_utc, close_utc], ...]} become those of the calendar in that range, unless p_dry_run; {added, removed, changes}. Bars concerned are rebuilt.';
revoke execute on function public.agg_refresh_calendar(jsonb, boolean) from public, anon, authenticated;
grant execute on function public.agg_refresh_calendar(jsonb, boolean) to service_role;

create function public.agg_calendars()
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object(
    'calendars', (
      select coalesce(jsonb_agg(jsonb_build_object('calendar', c.calendar, 'symbols', used.symbols, 'from_utc', c.from_utc,
                                                   'to_utc', c.to_utc, 'version', c.version, 'refreshed_at', c.refreshed_at)
                                order by c.calendar), '[]')
        from (select calendar, count(distinct canonical_symbol) as symbols
                from (select canonical_symbol, trading_calendar as calendar from public.core_asset_registry_all
                      union all select canonical_symbol, trading_calendar from public.trading_calendar_changes) named
               group by calendar) used
        join public.trading_calendars c on c.calendar = used.calendar),
    'proposals', (
      select coalesce(jsonb_agg(jsonb_build_object('canonical_symbol', a.canonical_symbol, 'calendar', 'fx_24x5')
                                order by a.canonical_symbol), '[]')
        from public.core_asset_registry_all a
       where lower(a.asset_class) in ('fx', 'forex') and a.trading_calendar = '24x7'
         and not exists (select from public.trading_calendar_changes c where c.canonical_symbol = a.canonical_symbol)))
$$;
comment on function public.agg_calendars() is
  'Calendars that assets follow, with the time that their sessions cover, and proposals for assets that look as if they had a wrong one.';
revoke execute on function public.agg_calendars() from public, anon, authenticated;
grant execute on function public.agg_calendars() to service_role;
