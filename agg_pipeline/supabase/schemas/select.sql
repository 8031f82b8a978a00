-- agg_due_tasks, agg_get_due_tasks: what this tick works on.
-- Called by: AggGateway.due_tasks; agg_get_due_tasks by the predecessor. Needs: _agg_due, _agg_sync, _agg_recover_stale,
-- isolation.

-- AG002 for what is asked for and does not exist.
create function public._agg_check_names(p_symbols text[], p_timeframes text[])
returns void language plpgsql stable set search_path = '' as $$
declare
  unknown text;
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
end $$;
revoke execute on function public._agg_check_names(text[], text[]) from public, anon, authenticated, service_role;

-- At most p_limit due tasks. A symbol's due tasks stay together, so that a parent never runs without the child that fills it.
create function public._agg_choose(
  p_env_name text, p_now_utc timestamptz, p_limit integer, p_symbols text[], p_timeframes text[], p_except jsonb,
  out symbols text[], out timeframes text[])
language plpgsql stable set search_path = '' as $$
declare
  chosen text;
  chain record;
begin
  symbols := '{}';
  timeframes := '{}';
  for chain in
    with due as (
      select d.*, s.is_mandatory, s.task_priority,
             -- Whoever waits for more ticks than it takes to serve all that is due (and two more) goes first, whatever
             -- its class.
             p_now_utc - d.waiting_since
               > make_interval(mins => 5 * (ceil(count(*) over () / greatest(p_limit, 1)::numeric)::integer + 2)) as starves
        from public._agg_due(p_env_name, p_now_utc, p_symbols, p_timeframes, p_except) d
        join public.data_agg_state s on s.canonical_symbol = d.canonical_symbol and s.timeframe = d.timeframe
    )
    select d.canonical_symbol, count(*)::integer as size, array_agg(d.timeframe order by d.starves desc, d.minutes) as timeframes
      from due d
     group by d.canonical_symbol
     order by bool_or(d.starves) desc, bool_or(d.is_mandatory) desc, min(d.task_priority), min(d.waiting_since), d.canonical_symbol
  loop
    exit when cardinality(symbols) >= p_limit;
    if p_limit is null or cardinality(symbols) + chain.size <= p_limit or cardinality(symbols) = 0 then
      -- One by one: only array_append grows an array in place.
      foreach chosen in array chain.timeframes[1:coalesce(p_limit, chain.size)] loop
        symbols := array_append(symbols, chain.canonical_symbol);
        timeframes := array_append(timeframes, chosen);
      end loop;
    end if;
  end loop;
end $$;
comment on function public._agg_choose(text, timestamptz, integer, text[], text[], jsonb) is
  'Due tasks that a tick takes, the most urgent symbols first.';
revoke execute on function public._agg_choose(text, timestamptz, integer, text[], text[], jsonb) from public, anon, authenticated, service_role;

create function public._agg_try_due(p_items jsonb, p_arguments jsonb)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  perform from public._agg_due(p_arguments ->> 'env', (p_arguments ->> 'now_utc')::timestamptz, public._agg_symbols(p_items),
                               public._agg_timeframes_of(p_items), null);
  return null;
end $$;
revoke execute on function public._agg_try_due(jsonb, jsonb) from public, anon, authenticated, service_role;

-- failed: tasks that had to be left out, each with its error.
create function public._agg_select(
  p_env_name text, p_now_utc timestamptz, p_limit integer, p_running_stale_seconds integer, p_symbols text[], p_timeframes text[],
  out symbols text[], out timeframes text[], out failed jsonb)
language plpgsql volatile set search_path = '' as $$
declare
  arguments constant jsonb := jsonb_build_object('env', p_env_name, 'now_utc', p_now_utc);
  not_synced jsonb;
  not_freed jsonb;
  not_read jsonb;
begin
  perform public._agg_check_names(p_symbols, p_timeframes);
  not_synced := coalesce(public._agg_sync(p_env_name, '2025-07-01 00:00:00+00') -> 'failed', '[]');
  not_freed := public._agg_recover_stale(p_now_utc, p_running_stale_seconds);
  not_read := public._agg_find_faults('due', 'select public._agg_try_due($1, $2)', arguments, p_symbols, 'known');
  for attempt in 1..3 loop
    begin
      select c.symbols, c.timeframes into symbols, timeframes
        from public._agg_choose(p_env_name, p_now_utc, p_limit, p_symbols, p_timeframes, public._agg_keys(not_read)) c;
      exit;
    exception when others then
      if attempt = 3 or public._agg_is_general(sqlstate) then
        raise;
      end if;
    end;
    not_read := public._agg_find_faults('due', 'select public._agg_try_due($1, $2)', arguments, p_symbols,
                                        (array['task', 'symbol'])[attempt]);
  end loop;

  perform public._agg_record_faults('sync', not_synced, p_now_utc);
  perform public._agg_record_faults('recovery', not_freed, p_now_utc);
  perform public._agg_record_faults('due', not_read, p_now_utc);
  failed := coalesce((
    select jsonb_agg(once.fault) from (
      select distinct on (f ->> 'canonical_symbol', f ->> 'timeframe') f as fault
        from jsonb_array_elements(not_synced || not_freed || not_read) f) once), '[]');
  if exists (select from public.agg_task_faults) then
    delete from public.agg_task_faults f
     where f.phase in ('sync', 'recovery', 'due')
       and (p_symbols is null or f.canonical_symbol = any (p_symbols))
       and not exists (select from jsonb_array_elements(failed) e
                        where e ->> 'canonical_symbol' = f.canonical_symbol and e ->> 'timeframe' = f.timeframe)
       -- Those that only another environment reads are its to judge.
       and not exists (select from public.core_asset_registry_all a where a.canonical_symbol = f.canonical_symbol
                          and not public._agg_env_active(p_env_name, coalesce(a.active, false), coalesce(a.test_active, false)));
  end if;
  -- Recorded is all that was found; the caller hears of what he asked for.
  failed := coalesce((
    select jsonb_agg(f) from jsonb_array_elements(failed) f
     where (p_symbols is null or f ->> 'canonical_symbol' = any (p_symbols))
       and (p_timeframes is null or f ->> 'timeframe' = any (p_timeframes))), '[]');
end $$;
revoke execute on function public._agg_select(text, timestamptz, integer, integer, text[], text[]) from public, anon, authenticated, service_role;

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
  selected record;
begin
  select * into selected
    from public._agg_select(p_env_name, coalesce(p_now_utc, now()), p_limit, p_running_stale_seconds, p_symbols, p_timeframes);
  return query
  select s.canonical_symbol, s.timeframe, s.source_timeframe, s.run_interval_minutes, s.aggregation_delay_seconds,
         s.last_agg_bar_ts_utc, s.status, s.hard_fail_streak, s.task_priority
    from unnest(selected.symbols, selected.timeframes) with ordinality c (symbol, tf, nth)
    join public.data_agg_state s on s.canonical_symbol = c.symbol and s.timeframe = c.tf
    join public.agg_timeframes t on t.timeframe = s.timeframe
   order by t.minutes, c.nth;
end $$;
comment on function public.agg_get_due_tasks(text, timestamptz, integer, integer, text[], text[]) is
  'Due tasks of an environment, shorter timeframes first, at most p_limit (null: all); a symbol''s due chain stays together. Syncs with the registry and frees stale leases on the way. A set: a hosted REST API cuts it at 1,000 rows; agg_due_tasks is not cut. AG002: unknown symbol or timeframe.';
revoke execute on function public.agg_get_due_tasks(text, timestamptz, integer, integer, text[], text[]) from public, anon, authenticated;
grant execute on function public.agg_get_due_tasks(text, timestamptz, integer, integer, text[], text[]) to service_role;

create function public.agg_due_tasks(
  p_env_name text, p_now_utc timestamptz default now(), p_limit integer default 20,
  p_running_stale_seconds integer default 900, p_symbols text[] default null, p_timeframes text[] default null)
returns jsonb
language plpgsql volatile security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  selected record;
begin
  select * into selected
    from public._agg_select(p_env_name, coalesce(p_now_utc, now()), p_limit, p_running_stale_seconds, p_symbols, p_timeframes);
  return jsonb_build_object('failed', selected.failed, 'tasks', (
    select coalesce(jsonb_agg(jsonb_build_object(
             'canonical_symbol', s.canonical_symbol, 'timeframe', s.timeframe, 'source_timeframe', s.source_timeframe,
             'last_agg_bar_ts_utc', s.last_agg_bar_ts_utc, 'task_priority', s.task_priority) order by t.minutes, c.nth), '[]')
      from unnest(selected.symbols, selected.timeframes) with ordinality c (symbol, tf, nth)
      join public.data_agg_state s on s.canonical_symbol = c.symbol and s.timeframe = c.tf
      join public.agg_timeframes t on t.timeframe = s.timeframe));
end $$;
comment on function public.agg_due_tasks(text, timestamptz, integer, integer, text[], text[]) is
  'agg_get_due_tasks as one JSON value: {tasks, failed}. failed: tasks that were left out since the database raised an error for them, [{canonical_symbol, timeframe, error: {sqlstate, message, hint}}, ...]. AG002: unknown symbol or timeframe.';
revoke execute on function public.agg_due_tasks(text, timestamptz, integer, integer, text[], text[]) from public, anon, authenticated;
grant execute on function public.agg_due_tasks(text, timestamptz, integer, integer, text[], text[]) to service_role;
