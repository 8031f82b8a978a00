-- catchup_aggregation_batch, catchup_aggregation_range: build the next windows of leased tasks.
-- Called by: AggGateway.catch_up, and the single form by the predecessor. Needs: _agg_catch_up, task_calls,
-- isolation.
--
-- Plans are pinned: right after a bulk load the statistics know nothing of it, and a scan of all history is what a
-- guess costs. Index order wherever there is an index. A call with few tasks takes the plan that the session made
-- before, for making one costs ten times what it does; one with many tasks is planned for their number, since they want
-- other joins.

create function public._agg_try_catch_up(p_tasks jsonb, p_arguments jsonb)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  symbols constant text[] := array(select t ->> 'canonical_symbol' from jsonb_array_elements(p_tasks) with ordinality e (t, nth) order by nth);
  timeframes constant text[] := array(select t ->> 'timeframe' from jsonb_array_elements(p_tasks) with ordinality e (t, nth) order by nth);
begin
  return (
    select jsonb_agg(jsonb_build_object('canonical_symbol', c.canonical_symbol, 'timeframe', c.timeframe) || c.result)
      from public._agg_catch_up(symbols, timeframes, (p_arguments ->> 'max_windows')::integer, (p_arguments ->> 'now_utc')::timestamptz,
                                (p_arguments ->> 'version')::integer, (p_arguments ->> 'ignore_confirmation')::boolean) c);
end $$;
revoke execute on function public._agg_try_catch_up(jsonb, jsonb) from public, anon, authenticated, service_role;

create function public.catchup_aggregation_batch(
  p_tasks jsonb, p_max_windows integer default 100, p_now_utc timestamptz default now(),
  p_derivation_version integer default 1, p_ignore_confirmation boolean default false)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
  set lock_timeout = '4s' as $$
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  max_windows constant integer := coalesce(p_max_windows, 0);
  arguments constant jsonb := jsonb_build_object(
    'max_windows', max_windows, 'now_utc', now_utc, 'version', coalesce(p_derivation_version, 1),
    'ignore_confirmation', coalesce(p_ignore_confirmation, false));
  results jsonb;
  level record;
  isolated record;
begin
  if max_windows not between 0 and 100000 then
    raise exception 'p_max_windows is %, but a call builds 0 to 100000 windows a task', max_windows using errcode = 'AG003',
      hint = 'Call again while the result says continue.';
  end if;
  perform public._agg_lock(p_tasks);
  if jsonb_array_length(p_tasks) > 32 then
    perform set_config('plan_cache_mode', 'force_custom_plan', true);  -- until this function ends
  end if;
  -- A statement of its own, after the locks: it sees what the last holder of each row has done.
  select coalesce(jsonb_object_agg(a.canonical_symbol || '/' || a.timeframe, refusal)
                    filter (where refusal is not null and not a.repeated), '{}')
    into results
    from public._agg_asked(p_tasks) a
    left join lateral (
      select s as state from public.data_agg_state s
       where s.canonical_symbol = a.canonical_symbol and s.timeframe = a.timeframe offset 0) task on true
   cross join lateral public._agg_refusal(a.canonical_symbol, a.timeframe, a.repeated, task.state,
                                          (a.task ->> 'lease_token')::bigint, now_utc) refusal
   where a.canonical_symbol is not null and a.timeframe is not null;
  results := results || coalesce((
    select jsonb_object_agg((f ->> 'canonical_symbol') || '/' || (f ->> 'timeframe'), f - 'canonical_symbol' - 'timeframe')
      from jsonb_array_elements(public._agg_impossible('catch-up', public._agg_symbols(p_tasks))) f
     where not results ? ((f ->> 'canonical_symbol') || '/' || (f ->> 'timeframe'))), '{}');

  -- Children before parents, so that what one level writes the next one reads.
  for level in
    select t.minutes, jsonb_agg(jsonb_build_object('canonical_symbol', a.canonical_symbol, 'timeframe', a.timeframe)
                                order by a.nth) as tasks
      from public._agg_asked(p_tasks) a join public.agg_timeframes t on t.timeframe = a.timeframe
     where not a.repeated and a.canonical_symbol is not null and not results ? (a.canonical_symbol || '/' || a.timeframe)
     group by t.minutes order by t.minutes
  loop
    select * into isolated from public._agg_isolate('catch-up', 'select public._agg_try_catch_up($1, $2)', level.tasks, arguments);
    results := results || coalesce((
      select jsonb_object_agg((r ->> 'canonical_symbol') || '/' || (r ->> 'timeframe'), r - 'canonical_symbol' - 'timeframe')
        from jsonb_array_elements(isolated.results || isolated.faults) r), '{}');
  end loop;

  select coalesce(jsonb_agg(
           jsonb_build_object('canonical_symbol', a.canonical_symbol, 'timeframe', a.timeframe)
           || case when a.repeated or a.canonical_symbol is null or a.timeframe is null
                   then public._agg_refusal(a.canonical_symbol, a.timeframe, a.repeated, null, null, now_utc)
                   else coalesce(results -> (a.canonical_symbol || '/' || a.timeframe), public._agg_refuse('AG002',
                     format('timeframe %s of %s is not in agg_timeframes, or the asset left the registry', a.timeframe, a.canonical_symbol),
                     'Add the row that is missing, or delete the task.')) end
           order by a.nth), '[]')
    into results from public._agg_asked(p_tasks) a;
  return results;
end $$;
comment on function public.catchup_aggregation_batch(jsonb, integer, timestamptz, integer, boolean) is
  'Builds the next windows of tasks [{canonical_symbol, timeframe, lease_token}, ...], at most p_max_windows a task; children before parents; one result per task in input order. AG001: lease lost.';
revoke execute on function public.catchup_aggregation_batch(jsonb, integer, timestamptz, integer, boolean) from public, anon, authenticated;
grant execute on function public.catchup_aggregation_batch(jsonb, integer, timestamptz, integer, boolean) to service_role;

create function public.catchup_aggregation_range(
  p_symbol text, p_to_tf text, p_start_cursor_utc timestamptz, p_max_windows integer default 100,
  p_now_utc timestamptz default null, p_derivation_version integer default 1, p_ignore_confirmation boolean default false,
  p_lease_token bigint default null)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  task public.agg_tasks;
  result jsonb;
begin
  select * into task from public.agg_tasks where canonical_symbol = p_symbol and timeframe = p_to_tf;
  if task.canonical_symbol is null then
    raise exception 'Missing agg config %/%', p_symbol, p_to_tf using errcode = 'AG002',
      hint = 'Add the asset to core_asset_registry_all and call sync_agg_state_from_registry.';
  elsif task.stored_cursor_utc is null and p_start_cursor_utc is null then
    raise exception 'catchup_aggregation_range: start cursor is NULL for %/%', p_symbol, p_to_tf using errcode = 'AG003',
      hint = 'Pass what agg_bootstrap_cursor returns.';
  end if;
  if task.stored_cursor_utc is null and p_start_cursor_utc > task.first_window then
    -- The caller starts later than the task would. Never later than its data: that would skip what is still to come.
    update public.data_agg_state set last_agg_bar_ts_utc = date_bin(task.length, p_start_cursor_utc, task.origin_utc)
     where canonical_symbol = p_symbol and timeframe = p_to_tf
       and exists (select from public.agg_source_bars b
                    where b.is_base = task.source_is_base and b.canonical_symbol = p_symbol
                      and b.timeframe = task.source_timeframe and b.ts_utc >= p_start_cursor_utc and b.reject_reason is null);
  end if;
  result := public._agg_raise(public.catchup_aggregation_batch(
    jsonb_build_array(jsonb_build_object('canonical_symbol', p_symbol, 'timeframe', p_to_tf, 'lease_token', p_lease_token)),
    p_max_windows, p_now_utc, p_derivation_version, p_ignore_confirmation) -> 0);
  if result ->> 'cursor_advanced_to' is null then
    -- The predecessor stores what it reads here, and must not read null.
    result := result || jsonb_build_object('cursor_advanced_to', greatest(p_start_cursor_utc, task.first_window));
  end if;
  return result || jsonb_build_object(
    'agg_start_enforced', coalesce(task.stored_cursor_utc, p_start_cursor_utc) < task.first_window);
end $$;
comment on function public.catchup_aggregation_range(text, text, timestamptz, integer, timestamptz, integer, boolean, bigint) is
  'Builds the next windows of one task. The stored cursor wins over p_start_cursor_utc; "continue": stopped by p_max_windows. AG001: lease lost, AG002: no such task.';
revoke execute on function public.catchup_aggregation_range(text, text, timestamptz, integer, timestamptz, integer, boolean, bigint)
  from public, anon, authenticated;
grant execute on function public.catchup_aggregation_range(text, text, timestamptz, integer, timestamptz, integer, boolean, bigint)
  to service_role;
