-- agg_rebuild_range: compute built windows again, now, up through the levels; or say what that would change.
-- Called by: AggGateway.rebuild. Needs: _agg_compute, _agg_store, _agg_held, _agg_windows_of.
--
-- The plan is the deed, taken back: whatever the two could differ in would be a lie in the plan.

-- What has changed in a range since p_since: rows that ended and rows that began then, as {ts_utc, change, fields}.
create function public._agg_changes(p_range public.agg_range, p_since timestamptz, p_limit integer)
returns jsonb language sql stable set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(change order by ts_utc), '[]') from (
    select ts_utc, jsonb_build_object(
             'timeframe', p_range.timeframe, 'ts_utc', ts_utc,
             'change', case when old.id is null then 'created' when new.id is null then 'retired' else 'revised' end,
             'fields', (select coalesce(jsonb_object_agg(field, jsonb_build_array(to_jsonb(old) -> field, to_jsonb(new) -> field)), '{}')
                          from unnest(array['open', 'high', 'low', 'close', 'vol', 'vwap', 'trade_count', 'is_partial',
                                            'source_timeframe', 'source_candles', 'expected_candles', 'quality_score',
                                            'derivation_version', 'raw']) field
                         where old.id is not null and new.id is not null
                           and to_jsonb(old) -> field is distinct from to_jsonb(new) -> field)) as change
      from (select * from public.derived_data_bars d
             where d.canonical_symbol = p_range.canonical_symbol and d.timeframe = p_range.timeframe
               and d.ts_utc >= p_range.from_utc and d.ts_utc < p_range.to_utc and d.deleted_at >= p_since) old
      full join (select * from public.derived_data_bars d
             where d.canonical_symbol = p_range.canonical_symbol and d.timeframe = p_range.timeframe
               and d.ts_utc >= p_range.from_utc and d.ts_utc < p_range.to_utc and d.deleted_at is null
               and d.created_at >= p_since) new using (ts_utc)
     order by ts_utc limit p_limit) changed
$$;
comment on function public._agg_changes(public.agg_range, timestamptz, integer) is
  'Bars of a range that were created, revised or retired since p_since, the first p_limit, with their fields [before, after].';
revoke execute on function public._agg_changes(public.agg_range, timestamptz, integer) from public, anon, authenticated, service_role;

create function public._agg_rebuild_level(p_range public.agg_range, p_derivation_version integer)
returns jsonb language plpgsql volatile set search_path = '' set timezone = 'UTC' as $$
declare
  figures record;
begin
  -- As in _agg_catch_up, the log is taken first: what is touched after it was read stays there.
  delete from public.agg_dirty_ranges d
   where d.canonical_symbol = p_range.canonical_symbol and d.timeframe = p_range.timeframe
     and d.from_utc >= p_range.from_utc and d.to_utc <= p_range.to_utc;
  select * into figures from public._agg_store(
    array[p_range], array(select b from public._agg_compute(array[p_range]) b), p_derivation_version, p_derivation_version is not null);
  return jsonb_build_object(
    'from_utc', p_range.from_utc, 'to_utc', p_range.to_utc,
    'written', coalesce(figures.created + figures.revised, 0), 'unchanged', coalesce(figures.unchanged, 0),
    'revised', coalesce(figures.revised, 0), 'retired', coalesce(figures.retired, 0));
end $$;
comment on function public._agg_rebuild_level(public.agg_range, integer) is
  'Live bars of a range, computed again; with a derivation version also those that differ in nothing else.';
revoke execute on function public._agg_rebuild_level(public.agg_range, integer) from public, anon, authenticated, service_role;

create function public.agg_rebuild_range(
  p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz, p_dry_run boolean default true,
  p_derivation_version integer default null, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  dry_run constant boolean := coalesce(p_dry_run, true);
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  max_windows constant integer := 5000;  -- of p_tf in one call: about a second of work
  max_changes constant integer := 100;
  asked public.agg_range := public._agg_windows_of(p_symbol, p_tf, p_from_utc, p_to_utc);
  wanted_to_utc constant timestamptz := asked.to_utc;
  began constant timestamptz := clock_timestamp();
  ladder text[];
  longest public.agg_timeframes;
  cut_utc timestamptz;
  leased public.data_agg_state;
  task public.agg_tasks;
  part public.agg_range;
  levels jsonb := '{}';
  changes jsonb := '[]';
begin
  if p_derivation_version < 1 then
    raise exception 'p_derivation_version is %, but versions count from 1', p_derivation_version using errcode = 'AG003',
      hint = 'Leave it out to keep the version of each bar.';
  end if;
  with recursive up as (
    select t.timeframe, t.minutes from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf
    union
    select p.timeframe, p.minutes from up c
      join public.agg_tasks p on p.canonical_symbol = p_symbol and p.source_timeframe = c.timeframe and not p.source_is_base
  )
  select array_agg(timeframe order by minutes) into ladder from up;
  -- A catch-up that is at work holds these rows: it is waited for. A lease between two of its calls is not.
  perform public._agg_lock((
    select jsonb_agg(jsonb_build_object('canonical_symbol', p_symbol, 'timeframe', tf)) from unnest(ladder) tf));
  select * into leased from public.data_agg_state s
   where s.canonical_symbol = p_symbol and s.timeframe = any (ladder)
     and case when s.lease_expires_at is null then s.status = 'running' else s.lease_expires_at > now_utc end limit 1;
  if leased.canonical_symbol is not null and not dry_run then
    raise exception '%/% is leased by % until %', p_symbol, leased.timeframe, coalesce(leased.lease_owner, 'a worker without a name'),
      coalesce(leased.lease_expires_at::text, 'it finishes') using errcode = 'AG001',
      hint = 'Nothing was rebuilt; try again when that run has ended.';
  end if;

  -- What one call may do ends with a window of the longest timeframe, so that none of them is built in two halves.
  select t.* into longest from public.agg_timeframes t where t.timeframe = ladder[cardinality(ladder)];
  select h into cut_utc from public._agg_held(asked, max_windows + 1) h offset max_windows;
  if cut_utc < asked.to_utc then
    asked.to_utc := date_bin(longest.length, cut_utc, longest.origin_utc);
    if asked.to_utc <= asked.from_utc then
      asked.to_utc := cut_utc;
    end if;
  end if;

  begin
    for task in select t.* from public.agg_tasks t
                 where t.canonical_symbol = p_symbol and t.timeframe = any (ladder) order by t.minutes loop
      part := (p_symbol, task.timeframe,
               greatest(task.first_window, date_bin(task.length, asked.from_utc, task.origin_utc)),
               least(task.cursor_utc, date_bin(task.length, asked.to_utc - interval '1 microsecond', task.origin_utc) + task.length));
      part.to_utc := greatest(part.from_utc, part.to_utc);
      levels := levels || jsonb_build_object(task.timeframe, public._agg_rebuild_level(
        part, case when task.timeframe = p_tf then p_derivation_version end));
      changes := changes || public._agg_changes(part, began, max_changes - jsonb_array_length(changes));
    end loop;
    if dry_run then
      raise exception 'only planned' using errcode = 'AG000';
    end if;
  exception when sqlstate 'AG000' then
    null;  -- the bars are as they were, the figures stay
  end;

  return (
    select jsonb_build_object('success', true, 'dry_run', dry_run,
                              'written', sum((l.value ->> 'written')::integer), 'unchanged', sum((l.value ->> 'unchanged')::integer),
                              'revised', sum((l.value ->> 'revised')::integer), 'retired', sum((l.value ->> 'retired')::integer),
                              'levels', levels, 'changes', changes,
                              'continue', asked.to_utc < wanted_to_utc, 'next_from_utc', asked.to_utc)
      from jsonb_each(levels) l);
end $$;
comment on function public.agg_rebuild_range(text, text, timestamptz, timestamptz, boolean, integer, timestamptz) is
  'Plans (p_dry_run, the default) or does: computes the built windows of a range again, and those above them. At most 5000 windows a call; "continue": call again from next_from_utc. A given version restamps the bars of p_tf. AG001: leased, AG002: no such task, AG003: no range.';
revoke execute on function public.agg_rebuild_range(text, text, timestamptz, timestamptz, boolean, integer, timestamptz)
  from public, anon, authenticated;
grant execute on function public.agg_rebuild_range(text, text, timestamptz, timestamptz, boolean, integer, timestamptz) to service_role;
