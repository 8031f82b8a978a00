-- agg_get_due_tasks: what this tick works on.
-- Called by: AggGateway.due_tasks, the predecessor. Needs: _agg_forward, _agg_sync, _agg_recover_stale.

-- Every due task: with an eligible window, with touched windows, or one that tasks below it, due as well, will fill.
create function public._agg_due(p_env_name text, p_now_utc timestamptz, p_symbols text[], p_timeframes text[])
returns table (canonical_symbol text, timeframe text, minutes integer, waiting_since timestamptz)
language plpgsql stable set search_path = '' as $$
#variable_conflict use_column
begin
  return query
with recursive candidate as materialized (
  select t.*, s.last_attempted_at_utc, coalesce(s.next_run_at <= p_now_utc, true) as on_time,
         -- Touched windows wait for nothing but a back-off.
         s.next_run_at > p_now_utc and s.hard_fail_streak + s.transient_streak > 0 as backs_off
    from public.agg_tasks t
    join public.data_agg_state s on s.canonical_symbol = t.canonical_symbol and s.timeframe = t.timeframe
    join public.core_asset_registry_all a on a.canonical_symbol = t.canonical_symbol
    -- Asked once, not for every row.
   cross join (select public._agg_env_active(p_env_name, true, false) as active,
                      public._agg_env_active(p_env_name, false, true) as test) served
   where (a.active and served.active or a.test_active and served.test)
     and s.enabled and s.status in ('idle', 'hard_failed')
     and not (s.paused_at_utc is not null and coalesce(s.paused_until_utc > p_now_utc, true))
     and (p_symbols is null or t.canonical_symbol = any (p_symbols))
     and (p_timeframes is null or t.timeframe = any (p_timeframes))
), ready as (
  select array_agg(canonical_symbol) as symbols, array_agg(timeframe) as timeframes
    from candidate where on_time and cursor_utc + length <= p_now_utc
), own as materialized (
  select c.canonical_symbol, c.timeframe, f.bars[1].ts_utc + c.length as since
    -- The first window is all that is asked for. Reading up to a dozen is cheaper than finding out where the first one ends.
    from ready cross join lateral public._agg_forward(ready.symbols, ready.timeframes, p_now_utc, 12, false) f
    join candidate c on c.canonical_symbol = f.canonical_symbol and c.timeframe = f.timeframe
   where cardinality(f.bars) > 0
), touched as materialized (
  select c.canonical_symbol, c.timeframe, min(d.from_utc) as from_utc, min(d.logged_at) as since
    from public.agg_dirty_ranges d
    join candidate c on c.canonical_symbol = d.canonical_symbol and c.timeframe = d.timeframe
   where greatest(d.from_utc, c.first_window) < least(d.to_utc, c.cursor_utc) and not coalesce(c.backs_off, false)
   group by 1, 2
), root as materialized (
  select c.canonical_symbol, c.timeframe, c.base_timeframe, d.from_utc as touched_utc,
         least(o.since, d.since, p_now_utc) as since
    from candidate c
    left join own o on o.canonical_symbol = c.canonical_symbol and o.timeframe = c.timeframe
    left join touched d on d.canonical_symbol = c.canonical_symbol and d.timeframe = c.timeframe
   where o.since is not null or d.since is not null
), due as (
  select canonical_symbol, timeframe, touched_utc, since from root
  union
  -- Up the ladder: the next window with base rows has ended and they reach its end (or nothing more will come), or what
  -- the child rewrites lies in windows that are built already.
  select p.canonical_symbol, p.timeframe, case when d.touched_utc < p.cursor_utc then d.touched_utc end,
         least(filled.until_utc, p_now_utc)
    from due d
    join public.agg_timeframes child on child.timeframe = d.timeframe
    join candidate p on p.canonical_symbol = d.canonical_symbol and p.source_timeframe = d.timeframe and not p.source_is_base
    left join lateral (
      select date_bin(p.length, b.ts_utc, p.origin_utc) + p.length as until_utc from public.agg_source_bars b
       where p.on_time and p.cursor_utc + p.length <= p_now_utc
         and b.is_base and b.canonical_symbol = p.canonical_symbol and b.timeframe = p.base_timeframe
         and b.ts_utc >= p.cursor_utc and b.reject_reason is null
       order by b.ts_utc limit 1) filled on true
    left join lateral (
      select b.ts_utc from public.agg_source_bars b
       where filled.until_utc <= p_now_utc
         and b.is_base and b.canonical_symbol = p.canonical_symbol and b.timeframe = p.base_timeframe
         and b.reject_reason is null and b.ts_utc <= p_now_utc
       order by b.ts_utc desc limit 1) newest on true
   where not coalesce(p.backs_off, false)
     and (newest.ts_utc >= filled.until_utc - child.length
          or p_now_utc >= filled.until_utc + p.deadline
          -- Before its first window nothing is built that could be touched.
          or (d.touched_utc < p.cursor_utc and p.first_window < p.cursor_utc))
)
select c.canonical_symbol, c.timeframe, c.minutes, greatest(c.last_attempted_at_utc, min(d.since))
  from due d join candidate c on c.canonical_symbol = d.canonical_symbol and c.timeframe = d.timeframe
 group by c.canonical_symbol, c.timeframe, c.minutes, c.last_attempted_at_utc;
end $$;
comment on function public._agg_due(text, timestamptz, text[], text[]) is 'Due tasks and since when each of them waits.';
revoke execute on function public._agg_due(text, timestamptz, text[], text[]) from public, anon, authenticated, service_role;

-- Plans are pinned as in catchup_aggregation_batch.
create function public.agg_get_due_tasks(
  p_env_name text, p_now_utc timestamptz default now(), p_limit integer default 20,
  p_running_stale_seconds integer default 900, p_symbols text[] default null, p_timeframes text[] default null)
returns table (canonical_symbol text, timeframe text, source_timeframe text, run_interval_minutes integer,
               aggregation_delay_seconds integer, last_agg_bar_ts_utc timestamptz, status text, hard_fail_streak integer,
               task_priority integer)
language plpgsql volatile security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
#variable_conflict use_column
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  unknown text;
  chosen_symbols text[] := '{}';
  chosen_timeframes text[] := '{}';
  chosen text;
  chain record;
begin
  select string_agg(asked, ', ') into unknown from unnest(p_symbols) asked
   where not exists (select from public.core_asset_registry_all a where a.canonical_symbol = asked);
  if unknown is not null then
    raise exception 'unknown symbol: %', unknown using errcode = 'AG002', hint = 'There are: ' || coalesce((
      select string_agg(s, ', ') from (select a.canonical_symbol from public.core_asset_registry_all a order by 1 limit 50) known (s)),
      'none; load or register an asset first');
  end if;
  select string_agg(asked, ', ') into unknown from unnest(p_timeframes) asked
   where not exists (select from public.agg_timeframes t where t.timeframe = asked and t.source_timeframe is not null);
  if unknown is not null then
    raise exception 'unknown timeframe: %', unknown using errcode = 'AG002', hint = 'There are: ' || (
      select string_agg(t.timeframe, ', ' order by t.minutes) from public.agg_timeframes t where t.source_timeframe is not null);
  end if;

  perform public._agg_sync(p_env_name, null, '2025-07-01 00:00:00+00');
  perform public._agg_recover_stale(now_utc, p_running_stale_seconds);

  -- A symbol's due tasks stay together, so that a parent never runs without the child that fills it.
  for chain in
    with due as (
      select d.*, s.is_mandatory, s.task_priority,
             -- Whoever waits for more ticks than it takes to serve all that is due (and two more) goes first, whatever
             -- its class.
             now_utc - d.waiting_since
               > make_interval(mins => 5 * (ceil(count(*) over () / greatest(p_limit, 1)::numeric)::integer + 2)) as starves
        from public._agg_due(p_env_name, now_utc, p_symbols, p_timeframes) d
        join public.data_agg_state s on s.canonical_symbol = d.canonical_symbol and s.timeframe = d.timeframe
    )
    select d.canonical_symbol, count(*)::integer as size, array_agg(d.timeframe order by d.starves desc, d.minutes) as timeframes
      from due d
     group by d.canonical_symbol
     order by bool_or(d.starves) desc, bool_or(d.is_mandatory) desc, min(d.task_priority), min(d.waiting_since), d.canonical_symbol
  loop
    exit when cardinality(chosen_symbols) >= p_limit;
    if p_limit is null or cardinality(chosen_symbols) + chain.size <= p_limit or cardinality(chosen_symbols) = 0 then
      -- One by one: only array_append grows an array in place.
      foreach chosen in array chain.timeframes[1:coalesce(p_limit, chain.size)] loop
        chosen_symbols := array_append(chosen_symbols, chain.canonical_symbol);
        chosen_timeframes := array_append(chosen_timeframes, chosen);
      end loop;
    end if;
  end loop;

  return query
  select s.canonical_symbol, s.timeframe, s.source_timeframe, s.run_interval_minutes, s.aggregation_delay_seconds,
         s.last_agg_bar_ts_utc, s.status, s.hard_fail_streak, s.task_priority
    from unnest(chosen_symbols, chosen_timeframes) with ordinality c (symbol, tf, nth)
    join public.data_agg_state s on s.canonical_symbol = c.symbol and s.timeframe = c.tf
    join public.agg_timeframes t on t.timeframe = s.timeframe
   order by t.minutes, c.nth;
end $$;
comment on function public.agg_get_due_tasks(text, timestamptz, integer, integer, text[], text[]) is
  'Due tasks of an environment, shorter timeframes first, at most p_limit (null: all); a symbol''s due chain stays together. Syncs with the registry and frees stale leases on the way. AG002: unknown symbol or timeframe.';
revoke execute on function public.agg_get_due_tasks(text, timestamptz, integer, integer, text[], text[]) from public, anon, authenticated;
grant execute on function public.agg_get_due_tasks(text, timestamptz, integer, integer, text[], text[]) to service_role;
