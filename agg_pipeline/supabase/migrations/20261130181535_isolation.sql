-- isolation: _agg_bad_cursors, _agg_check_names, _agg_choose, _agg_due, _agg_each_task, _agg_fault, _agg_fault_reason, _agg_find_faults, _agg_finish_tasks, _agg_health, _agg_health_of, _agg_impossible, _agg_is_general, _agg_is_stale, _agg_is_symbol, _agg_isolate, _agg_keys, _agg_load_symbols, _agg_log_dirty, _agg_record_faults, _agg_recover_stale, _agg_recover_tasks, _agg_select, _agg_start_tasks, _agg_symbols, _agg_sync, _agg_sync_symbols, _agg_time_or_null, _agg_timeframes_of, _agg_try_catch_up, _agg_try_due, _agg_try_health, _agg_try_sync, _agg_windows_of, agg_bars_page, agg_contract, agg_due_tasks, agg_finish_batch, agg_get_due_tasks, agg_health, agg_load_bars, agg_mend_cursors, agg_register_asset, agg_start_batch, catchup_aggregation_batch, sync_agg_state_from_registry, agg_source_bars, agg_tasks.
-- Written by `make migration` from supabase/schemas, where the reasons are. Needs: all migrations before it.
-- Repeat: yes. Undo: the same objects as the version before has them.
set local lock_timeout = '10s';

create table if not exists public.agg_task_faults (
  canonical_symbol text not null,
  timeframe text not null,
  phase text not null,
  sqlstate text not null,
  message text not null,
  hint text,
  failures integer not null default 1,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  primary key (canonical_symbol, timeframe)
);
alter table public.agg_task_faults enable row level security;

do $$
begin
  if to_regtype('public.agg_task_health') is null then
    create type public.agg_task_health as (
      canonical_symbol text, timeframe text, source_timeframe text, state text, reason text,
      lag_windows integer, lag_seconds bigint, backlog_windows integer, touched_windows integer, touched_from_utc timestamptz,
      source_silent_seconds bigint,
      completeness_hour double precision, completeness_day double precision,
      cursor_utc timestamptz, next_window_utc timestamptz, first_window_utc timestamptz, newest_source_utc timestamptz,
      status text, enabled boolean, is_mandatory boolean, task_priority integer,
      hard_fail_streak integer, transient_streak integer, stale_streak integer, stall_streak integer, last_error text,
      last_attempted_at_utc timestamptz, last_successful_at_utc timestamptz, next_run_at timestamptz,
      paused_at_utc timestamptz, paused_until_utc timestamptz, pause_reason text, paused_by text,
      lease_owner text, lease_expires_at timestamptz,
      total_runs bigint, total_bars_created bigint, total_bars_quality_poor bigint, waits_for_task boolean);
  end if;
end $$;

create or replace view public.v_aggregation_health with (security_invoker=true) as select null::text as canonical_symbol, null::text as timeframe, null::text as source_timeframe, null::text as state, null::text as reason, null::integer as lag_windows, null::bigint as lag_seconds, null::integer as backlog_windows, null::integer as touched_windows, null::timestamp with time zone as touched_from_utc, null::bigint as source_silent_seconds, null::double precision as completeness_hour, null::double precision as completeness_day, null::timestamp with time zone as cursor_utc, null::timestamp with time zone as next_window_utc, null::timestamp with time zone as first_window_utc, null::timestamp with time zone as newest_source_utc, null::text as status, null::boolean as enabled, null::boolean as is_mandatory, null::integer as task_priority, null::integer as hard_fail_streak, null::integer as transient_streak, null::integer as stale_streak, null::integer as stall_streak, null::text as last_error, null::timestamp with time zone as last_attempted_at_utc, null::timestamp with time zone as last_successful_at_utc, null::timestamp with time zone as next_run_at, null::timestamp with time zone as paused_at_utc, null::timestamp with time zone as paused_until_utc, null::text as pause_reason, null::text as paused_by, null::text as lease_owner, null::timestamp with time zone as lease_expires_at, null::bigint as total_runs, null::bigint as total_bars_created, null::bigint as total_bars_quality_poor, null::boolean as waits_for_task;
-- squawk-ignore ban-drop-function
drop function if exists public._agg_due(text, timestamp with time zone, text[], text[]), public._agg_health(text[], timestamp with time zone), public._agg_recover_stale(timestamp with time zone, integer), public._agg_sync(text, text[], timestamp with time zone);

CREATE OR REPLACE FUNCTION public._agg_log_dirty()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  seen integer;
  moved public.agg_range[];
begin
  if tg_op = 'TRUNCATE' then  -- names no rows: all that the tasks have built is in doubt
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select canonical_symbol, timeframe, agg_start_utc, last_agg_bar_ts_utc
      from public.data_agg_state where agg_start_utc < last_agg_bar_ts_utc;
    return null;
  end if;
  -- An upsert fires the triggers of insert and update, one of them mostly without rows, and many ingesters write row by
  -- row: there, what follows would cost more than all else that they do.
  seen := (select count(*) from (select from changed limit 2) first_two);
  if seen = 0 then
    return null;
  end if;
  -- An update may have moved rows out of windows. Of many rows only the moved ones are looked for: mostly none.
  if tg_op = 'UPDATE' and seen = 1 then
    moved := array(select (b.canonical_symbol, b.timeframe, b.ts_utc, null)::public.agg_range from old_rows b);
  elsif tg_op = 'UPDATE' then
    moved := array(select (b.canonical_symbol, b.timeframe, b.ts_utc, null)::public.agg_range
                     from (select canonical_symbol, timeframe, ts_utc from old_rows
                           except
                           select canonical_symbol, timeframe, ts_utc from changed) b);
  end if;
  -- Rows outside of the centuries that agg_source_bars takes are in no window. Their times may break date_bin, and with it
  -- the whole statement of the ingester.
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
  select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
    from (select w.canonical_symbol, w.timeframe, range_agg(tstzrange(w.from_utc, w.from_utc + w.length)) as runs
            from (select b.canonical_symbol, t.timeframe, t.length, date_bin(t.length, b.ts_utc, t.origin_utc) as from_utc
                    from (select canonical_symbol, timeframe, ts_utc from changed
                          union all
                          select m.canonical_symbol, m.timeframe, m.from_utc from unnest(moved) m) b
                    join public.agg_timeframes t on t.source_timeframe = b.timeframe
                   where b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00'
                  offset 0) w  -- so that date_bin is computed once a row
           group by 1, 2) touched, unnest(touched.runs) run;
  return null;
end $function$;

create or replace view public.agg_source_bars with (security_invoker=true) as
 SELECT b.is_base,
    b.canonical_symbol,
    b.timeframe,
    b.ts_utc,
    b.open,
    b.high,
    b.low,
    b.close,
    b.vol,
        CASE
            WHEN ((b.vwap > '-Infinity'::double precision) AND (b.vwap < 'Infinity'::double precision)) THEN b.vwap
            ELSE NULL::double precision
        END AS vwap,
        CASE
            WHEN (b.trade_count >= 0) THEN b.trade_count
            ELSE NULL::integer
        END AS trade_count,
    b.is_partial,
        CASE
            WHEN ((b.ts_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (b.ts_utc < '2200-01-01 00:00:00+00'::timestamp with time zone) AND (b.ts_utc = date_bin(t.length, b.ts_utc, t.origin_utc)) AND (b.low >= ('-1000000000000000000000000000000'::numeric)::double precision) AND (b.high <= ('1000000000000000000000000000000'::numeric)::double precision) AND ((b.open >= b.low) AND (b.open <= b.high)) AND ((b.close >= b.low) AND (b.close <= b.high)) AND ((b.vol IS NULL) OR ((b.vol >= (0)::double precision) AND (b.vol < 'Infinity'::double precision))) AND ((NOT b.is_base) OR (((b.vol IS NULL) OR (b.vol <= ('1000000000000000000000000000000'::numeric)::double precision)) AND ((b.vwap IS NULL) OR (abs(b.vwap) <= ('1000000000000000000000000000000'::numeric)::double precision) OR (b.vwap = ANY (ARRAY['NaN'::double precision, 'Infinity'::double precision, '-Infinity'::double precision]))) AND ((b.trade_count IS NULL) OR (b.trade_count <= '1000000000000000'::bigint))))) THEN NULL::text
            WHEN (NOT ((b.ts_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (b.ts_utc < '2200-01-01 00:00:00+00'::timestamp with time zone))) THEN 'out of range'::text
            WHEN (b.ts_utc <> date_bin(t.length, b.ts_utc, t.origin_utc)) THEN 'time off the grid'::text
            WHEN ((b.open IS NULL) OR (b.high IS NULL) OR (b.low IS NULL) OR (b.close IS NULL)) THEN 'price missing'::text
            WHEN (NOT ((b.open > '-Infinity'::double precision) AND (b.open < 'Infinity'::double precision) AND (b.high > '-Infinity'::double precision) AND (b.high < 'Infinity'::double precision) AND (b.low > '-Infinity'::double precision) AND (b.low < 'Infinity'::double precision) AND (b.close > '-Infinity'::double precision) AND (b.close < 'Infinity'::double precision))) THEN 'price not finite'::text
            WHEN (b.high < b.low) THEN 'high below low'::text
            WHEN ((b.open < b.low) OR (b.open > b.high)) THEN 'open outside low to high'::text
            WHEN ((b.close < b.low) OR (b.close > b.high)) THEN 'close outside low to high'::text
            WHEN ((b.vol < (0)::double precision) OR (b.vol >= 'Infinity'::double precision)) THEN 'volume negative or not finite'::text
            ELSE 'out of range'::text
        END AS reject_reason
   FROM (( SELECT true AS is_base,
            data_bars.canonical_symbol,
            data_bars.timeframe,
            data_bars.ts_utc,
            data_bars.open,
            data_bars.high,
            data_bars.low,
            data_bars.close,
            data_bars.vol,
            data_bars.vwap,
            data_bars.trade_count,
            data_bars.is_partial,
            NULL::timestamp with time zone AS deleted_at
           FROM public.data_bars
        UNION ALL
         SELECT false,
            derived_data_bars.canonical_symbol,
            derived_data_bars.timeframe,
            derived_data_bars.ts_utc,
            derived_data_bars.open,
            derived_data_bars.high,
            derived_data_bars.low,
            derived_data_bars.close,
            derived_data_bars.vol,
            derived_data_bars.vwap,
            derived_data_bars.trade_count,
            derived_data_bars.is_partial,
            derived_data_bars.deleted_at
           FROM public.derived_data_bars) b
     JOIN public.agg_timeframes t ON ((t.timeframe = b.timeframe)))
  WHERE (b.deleted_at IS NULL);

create or replace view public.agg_tasks with (security_invoker=true) as
 SELECT s.canonical_symbol,
    s.timeframe,
    t.minutes,
    t.length,
    t.origin_utc,
    t.source_timeframe,
    (t.minutes / source.minutes) AS expected_candles,
    (t.source_timeframe = asset.base_timeframe) AS source_is_base,
    asset.base_timeframe,
    grid.first_window,
    GREATEST(grid.first_window, date_bin(t.length, s.last_agg_bar_ts_utc, t.origin_utc)) AS cursor_utc,
    s.last_agg_bar_ts_utc AS stored_cursor_utc,
    make_interval(secs => (COALESCE(s.aggregation_delay_seconds, 0))::double precision) AS delay,
    make_interval(secs => (s.late_deadline_seconds)::double precision) AS deadline,
    (COALESCE(((s.last_agg_bar_ts_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.last_agg_bar_ts_utc <= '2200-01-01 00:00:00+00'::timestamp with time zone)), true) AND COALESCE(((s.next_run_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.next_run_at <= '2200-01-01 00:00:00+00'::timestamp with time zone)), true) AND ((s.agg_start_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.agg_start_utc <= '2200-01-01 00:00:00+00'::timestamp with time zone))) AS is_possible
   FROM ((((public.data_agg_state s
     JOIN public.agg_timeframes t ON ((t.timeframe = s.timeframe)))
     JOIN public.agg_timeframes source ON ((source.timeframe = t.source_timeframe)))
     JOIN ( SELECT core_asset_registry_all.canonical_symbol,
            COALESCE(core_asset_registry_all.base_timeframe,
                CASE core_asset_registry_all.ingest_class
                    WHEN 'B'::text THEN '5m'::text
                    ELSE '1m'::text
                END) AS base_timeframe
           FROM public.core_asset_registry_all) asset ON ((asset.canonical_symbol = s.canonical_symbol)))
     CROSS JOIN LATERAL ( SELECT (date_bin(t.length, (s.agg_start_utc - '00:00:00.000001'::interval), t.origin_utc) + t.length) AS first_window) grid);

CREATE OR REPLACE FUNCTION public._agg_is_general(p_sqlstate text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select p_sqlstate ~ '^(08|40|53|55|57|58|XX)'
$function$;

comment on function public._agg_is_general(text) is 'True if an error concerns the whole database, not one task.';
revoke all on function public._agg_is_general(text) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_fault(p_phase text, p_task jsonb, p_sqlstate text, p_message text, p_hint text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
  select jsonb_build_object('canonical_symbol', p_task ->> 'canonical_symbol', 'timeframe', p_task ->> 'timeframe')
         || public._agg_refuse(p_sqlstate,
              format('%s of %s failed%s: %s', p_phase, concat_ws('/', p_task ->> 'canonical_symbol', p_task ->> 'timeframe'),
                     ' at the window of ' || s.last_agg_bar_ts_utc, p_message),
              coalesce(
                case when not t.is_possible then format(
                  'data_agg_state says that its cursor is %s, its start %s and its next run %s; agg-pipeline repair --apply '
                  'mends all but the start.', s.last_agg_bar_ts_utc, s.agg_start_utc, coalesce(s.next_run_at::text, 'at once')) end,
                nullif(p_hint, ''),
                case when p_sqlstate = '22003'
                     then 'trade_count of a window sums to more than an integer holds; correct it in data_bars' end,
                'Only this task is left out. Correct what the message names; the next tick tries again.'))
    from (select) one
    left join public.data_agg_state s
      on s.canonical_symbol = p_task ->> 'canonical_symbol' and s.timeframe = p_task ->> 'timeframe'
    left join public.agg_tasks t on t.canonical_symbol = s.canonical_symbol and t.timeframe = s.timeframe
$function$;

revoke all on function public._agg_fault(text, jsonb, text, text, text) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_isolate(p_phase text, p_call text, p_items jsonb, p_arguments jsonb, OUT results jsonb, OUT faults jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  parts int4range[] := array[int4range(0, coalesce(jsonb_array_length(p_items), 0))];
  part int4range;
  middle integer;
  done jsonb;
  message text;
  hint text;
begin
  results := '[]';
  faults := '[]';
  while cardinality(parts) > 0 loop
    part := parts[cardinality(parts)];
    parts := trim_array(parts, 1);
    continue when isempty(part);
    begin
      execute p_call into done using (
        select jsonb_agg(e.item order by e.nth) from jsonb_array_elements(p_items) with ordinality e (item, nth)
         where part @> (e.nth - 1)::integer), p_arguments;
      results := results || coalesce(done, '[]');
    exception when others then
      if public._agg_is_general(sqlstate) then
        raise;
      end if;
      middle := (lower(part) + upper(part)) / 2;
      if middle > lower(part) then
        parts := parts || int4range(middle, upper(part)) || int4range(lower(part), middle);
      else
        get stacked diagnostics message = message_text, hint = pg_exception_hint;
        faults := faults || public._agg_fault(p_phase, p_items -> lower(part), sqlstate, message, hint);
      end if;
    end;
  end loop;
end $function$;

comment on function public._agg_isolate(text, text, jsonb, jsonb) is 'Runs p_call for all p_items or, where that fails, for as many as it works for: their results, and a fault for each other.';
revoke all on function public._agg_isolate(text, text, jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_record_faults(p_phase text, p_faults jsonb, p_now_utc timestamp with time zone)
 RETURNS void
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  insert into public.agg_task_faults as old (canonical_symbol, timeframe, phase, sqlstate, message, hint, first_at, last_at)
  select f ->> 'canonical_symbol', f ->> 'timeframe', p_phase, f #>> '{error,sqlstate}', f #>> '{error,message}',
         f #>> '{error,hint}', p_now_utc, p_now_utc
    from jsonb_array_elements(p_faults) f
  on conflict (canonical_symbol, timeframe) do update
     set phase = excluded.phase, sqlstate = excluded.sqlstate, message = excluded.message, hint = excluded.hint,
         failures = old.failures + 1, last_at = excluded.last_at
$function$;

revoke all on function public._agg_record_faults(text, jsonb, timestamp with time zone) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_fault_reason(p_fault public.agg_task_faults)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select case when p_fault.message is not null then format('%s (%s, %s times since %s). %s', p_fault.message, p_fault.sqlstate,
           p_fault.failures, to_char(p_fault.first_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), p_fault.hint) end
$function$;

revoke all on function public._agg_fault_reason(public.agg_task_faults) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_each_task(p_phase text, p_call text, p_tasks jsonb, p_arguments jsonb, p_now_utc timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  done jsonb;
  isolated record;
begin
  begin
    execute p_call into done using p_tasks, p_arguments;
    return coalesce(done, '[]');
  exception when others then
    if public._agg_is_general(sqlstate) or sqlstate like 'AG%' then
      raise;
    end if;
  end;
  select * into isolated from public._agg_isolate(p_phase, p_call, (
    select jsonb_agg(a.task order by a.nth) from public._agg_asked(p_tasks) a
     where not a.repeated and a.canonical_symbol is not null and a.timeframe is not null), p_arguments);
  perform public._agg_record_faults(p_phase, isolated.faults, p_now_utc);
  return (
    select jsonb_agg(coalesce(r.result, jsonb_build_object('canonical_symbol', a.canonical_symbol, 'timeframe', a.timeframe)
             || public._agg_refusal(a.canonical_symbol, a.timeframe, a.repeated, null, null, p_now_utc)) order by a.nth)
      from public._agg_asked(p_tasks) a
      left join jsonb_array_elements(isolated.results || isolated.faults) r (result)
        on not a.repeated and r.result ->> 'canonical_symbol' = a.canonical_symbol and r.result ->> 'timeframe' = a.timeframe);
end $function$;

revoke all on function public._agg_each_task(text, text, jsonb, jsonb, timestamp with time zone) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_impossible(p_phase text, p_symbols text[])
 RETURNS jsonb
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_agg(public._agg_fault(p_phase, jsonb_build_object('canonical_symbol', t.canonical_symbol, 'timeframe', t.timeframe),
                                              '22008', 'its cursor, start or next run is no time between 1900 and 2200', null)), '[]')
    from public.agg_tasks t where not t.is_possible and (p_symbols is null or t.canonical_symbol = any (p_symbols))
$function$;

comment on function public._agg_impossible(text, text[]) is 'A fault for each task whose windows cannot be counted.';
revoke all on function public._agg_impossible(text, text[]) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_find_faults(p_phase text, p_call text, p_arguments jsonb, p_symbols text[], p_by text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  impossible constant jsonb := public._agg_impossible(p_phase, p_symbols);
  items jsonb;
  faults jsonb;
begin
  if p_by = 'known' then  -- the cheapest: it mostly ends here, with none or with the same as before
    select jsonb_agg(jsonb_build_object('canonical_symbol', f.canonical_symbol, 'timeframe', f.timeframe)) into items
      from public.agg_task_faults f
      join public.agg_tasks t on t.canonical_symbol = f.canonical_symbol and t.timeframe = f.timeframe and t.is_possible
     where p_symbols is null or f.canonical_symbol = any (p_symbols);
    return impossible || (public._agg_isolate(p_phase, p_call, items, p_arguments)).faults;
  end if;
  select jsonb_agg(jsonb_build_object('canonical_symbol', s.symbol)) into items
    from (select distinct canonical_symbol as symbol from public.data_agg_state order by 1) s
   where p_symbols is null or s.symbol = any (p_symbols);
  faults := (public._agg_isolate(p_phase, p_call, items, p_arguments)).faults;
  select jsonb_agg(f || jsonb_build_object('timeframe', t.timeframe)) into items
    from jsonb_array_elements(faults) f
    join public.agg_tasks t on t.canonical_symbol = f ->> 'canonical_symbol' and t.is_possible;
  -- By symbol: each of its tasks, with what the symbol as a whole was refused for.
  return impossible || case p_by when 'symbol' then coalesce(items, '[]')
                                 else (public._agg_isolate(p_phase, p_call, items, p_arguments)).faults end;
end $function$;

comment on function public._agg_find_faults(text, text, jsonb, text[], text) is 'Tasks for which p_call fails: p_by known (of those in agg_task_faults), task (of all, alone) or symbol (all tasks of the symbols that it fails for). Those of _agg_impossible are always among them.';
revoke all on function public._agg_find_faults(text, text, jsonb, text[], text) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_keys(p_faults jsonb)
 RETURNS jsonb
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select jsonb_object_agg((f ->> 'canonical_symbol') || '/' || (f ->> 'timeframe'), true) from jsonb_array_elements(p_faults) f
$function$;

revoke all on function public._agg_keys(jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_symbols(p_items jsonb)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select array_agg(distinct i ->> 'canonical_symbol') from jsonb_array_elements(p_items) i
$function$;

revoke all on function public._agg_symbols(jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_timeframes_of(p_items jsonb)
 RETURNS text[]
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select array_agg(distinct i ->> 'timeframe') filter (where i ->> 'timeframe' is not null) from jsonb_array_elements(p_items) i
$function$;

revoke all on function public._agg_timeframes_of(jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_start_tasks(p_tasks jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  now_utc constant timestamptz := p_arguments ->> 'now_utc';
  owner constant text := p_arguments ->> 'owner';
  seconds constant integer := p_arguments ->> 'seconds';
  results jsonb;
begin
  with asked as materialized (
    select * from public._agg_asked(p_tasks)
  ), free as (
    select a.nth, s.canonical_symbol, s.timeframe, s.status = 'running' as is_own
      from asked a
      join public.data_agg_state s on s.canonical_symbol = a.canonical_symbol and s.timeframe = a.timeframe
     where not a.repeated
       and case when s.status = 'running' then s.lease_owner = owner and s.lease_expires_at > now_utc
                else s.status in ('idle', 'hard_failed') and s.enabled
                     and not (s.paused_at_utc is not null and coalesce(s.paused_until_utc > now_utc, true)) end
       -- Whoever has the row locked is at work on the task: that is no reason to wait, and none to fail.
       for update of s skip locked
  ), started as (
    update public.data_agg_state s
       set status = 'running', status_before = case when f.is_own then s.status_before else s.status end,
           running_started_at_utc = now_utc, last_attempted_at_utc = now_utc,
           lease_token = s.lease_token + (not f.is_own)::integer, lease_owner = owner, lease_seconds = seconds,
           lease_expires_at = now_utc + make_interval(secs => seconds)
      from free f
     where s.canonical_symbol = f.canonical_symbol and s.timeframe = f.timeframe
    returning f.nth, s.*
  )
  select jsonb_agg(jsonb_build_object('canonical_symbol', a.canonical_symbol, 'timeframe', a.timeframe) || case
           when a.repeated or a.canonical_symbol is null or a.timeframe is null
             then public._agg_refusal(a.canonical_symbol, a.timeframe, a.repeated, null, null, now_utc)
           when s.nth is null then jsonb_build_object('success', false, 'error', 'not_idle_or_missing')
           else jsonb_build_object(
             'success', true, 'source_timeframe', s.source_timeframe, 'run_interval_minutes', s.run_interval_minutes,
             'aggregation_delay_seconds', s.aggregation_delay_seconds, 'last_agg_bar_ts_utc',
             -- Of another time no client has a notion; the catch-up says what is wrong with it.
             case when s.last_agg_bar_ts_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' then s.last_agg_bar_ts_utc end,
             'lease_token', s.lease_token, 'lease_expires_at', s.lease_expires_at)
         end order by a.nth)
    into results from asked a left join started s on s.nth = a.nth;
  return results;
end $function$;

revoke all on function public._agg_start_tasks(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.agg_start_batch(p_tasks jsonb, p_now_utc timestamp with time zone DEFAULT now(), p_owner text DEFAULT NULL::text, p_lease_seconds integer DEFAULT NULL::integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  seconds constant integer := coalesce(p_lease_seconds, 900);
begin
  if seconds <= 0 then
    raise exception 'p_lease_seconds is %, but a lease lasts at least one second', seconds using errcode = 'AG003',
      hint = 'Leave it out for 900 seconds.';
  end if;
  return public._agg_each_task('start', 'select public._agg_start_tasks($1, $2)', p_tasks,
                               jsonb_build_object('now_utc', now_utc, 'owner', p_owner, 'seconds', seconds), now_utc);
end $function$;

CREATE OR REPLACE FUNCTION public._agg_try_catch_up(p_tasks jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  symbols constant text[] := array(select t ->> 'canonical_symbol' from jsonb_array_elements(p_tasks) with ordinality e (t, nth) order by nth);
  timeframes constant text[] := array(select t ->> 'timeframe' from jsonb_array_elements(p_tasks) with ordinality e (t, nth) order by nth);
begin
  return (
    select jsonb_agg(jsonb_build_object('canonical_symbol', c.canonical_symbol, 'timeframe', c.timeframe) || c.result)
      from public._agg_catch_up(symbols, timeframes, (p_arguments ->> 'max_windows')::integer, (p_arguments ->> 'now_utc')::timestamptz,
                                (p_arguments ->> 'version')::integer, (p_arguments ->> 'ignore_confirmation')::boolean) c);
end $function$;

revoke all on function public._agg_try_catch_up(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.catchup_aggregation_batch(p_tasks jsonb, p_max_windows integer DEFAULT 100, p_now_utc timestamp with time zone DEFAULT now(), p_derivation_version integer DEFAULT 1, p_ignore_confirmation boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '4s'
AS $function$
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
end $function$;

CREATE OR REPLACE FUNCTION public._agg_finish_tasks(p_results jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  now_utc constant timestamptz := p_arguments ->> 'now_utc';
  hard_limit constant integer := p_arguments ->> 'hard_limit';
  results jsonb;
begin
  select jsonb_agg(jsonb_build_object('canonical_symbol', a.canonical_symbol, 'timeframe', a.timeframe) || coalesce(
           case when s.finished_token = (a.task ->> 'lease_token')::bigint and s.lease_expires_at is null and not a.repeated
                then jsonb_set(public._agg_refuse('AG001', format('lease %s on %s/%s is not held: it was finished already',
                       s.finished_token, a.canonical_symbol, a.timeframe), 'If this is a repetition, the first one did it all; else discard this result.'),
                       '{error,repeated}', 'true') end,
           public._agg_refusal(a.canonical_symbol, a.timeframe, a.repeated, s.state, (a.task ->> 'lease_token')::bigint, now_utc),
           case when s.lease_expires_at is null and s.status <> 'running' then public._agg_refuse('AG001',
                  format('%s/%s is not leased', a.canonical_symbol, a.timeframe),
                  'It was finished, released or went stale; discard this result.') end,
           case when (a.task ->> 'success')::boolean
                then public._agg_finish_success(a.canonical_symbol, a.timeframe, (a.task ->> 'new_cursor_utc')::timestamptz,
                                                nullif(a.task -> 'stats', 'null'), now_utc)
                else public._agg_finish_failure(a.canonical_symbol, a.timeframe, a.task ->> 'fail_kind', a.task ->> 'error',
                                                now_utc, hard_limit) end)
           order by a.nth)
    into results
    from public._agg_asked(p_results) a
    left join lateral (
      select s as state, s.finished_token, s.lease_expires_at, s.status from public.data_agg_state s
       where s.canonical_symbol = a.canonical_symbol and s.timeframe = a.timeframe offset 0) s on true;
  return results;
end $function$;

revoke all on function public._agg_finish_tasks(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.agg_finish_batch(p_results jsonb, p_now_utc timestamp with time zone DEFAULT now(), p_auto_disable_hard_fail_threshold integer DEFAULT 3)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET lock_timeout TO '4s'
AS $function$
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  results jsonb;
begin
  perform public._agg_lock(p_results);
  results := public._agg_each_task('finish', 'select public._agg_finish_tasks($1, $2)', p_results, jsonb_build_object(
    'now_utc', now_utc, 'hard_limit', coalesce(p_auto_disable_hard_fail_threshold, 3)), now_utc);
  -- What kept a task from being started or finished has gone.
  if exists (select from public.agg_task_faults) then
    delete from public.agg_task_faults f using jsonb_array_elements(results) r
     where r -> 'success' = 'true' and r ->> 'canonical_symbol' = f.canonical_symbol and r ->> 'timeframe' = f.timeframe;
  end if;
  return results;
end $function$;

CREATE OR REPLACE FUNCTION public._agg_sync_symbols(p_env_name text, p_symbols text[], p_agg_start_utc timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  created integer;
  repaired integer;
begin
  insert into public.data_agg_state (canonical_symbol, timeframe, source_timeframe, run_interval_minutes,
                                     aggregation_delay_seconds, is_mandatory, agg_start_utc)
  select m.canonical_symbol, m.timeframe, m.source_timeframe, m.minutes, 30, true, p_agg_start_utc
    from public._agg_missing_tasks(p_env_name, p_symbols) m
  on conflict do nothing;
  get diagnostics created = row_count;
  if created > 1000 then  -- whoever looks for what is due next must not plan for an empty table
    analyze public.core_asset_registry_all, public.data_agg_state;
  end if;
  -- Only what follows from the ladder; whatever an operator may set stays.
  update public.data_agg_state s
     set source_timeframe = t.source_timeframe, run_interval_minutes = t.minutes
    from public.agg_timeframes t
   where t.timeframe = s.timeframe and t.source_timeframe is not null
     and (p_symbols is null or s.canonical_symbol = any (p_symbols))
     and (s.source_timeframe, s.run_interval_minutes) is distinct from (t.source_timeframe, t.minutes);
  get diagnostics repaired = row_count;
  -- Nobody consumes these. A task that is created later starts from its first window and reads their rows then.
  delete from public.agg_dirty_ranges d
   where not exists (select from public.data_agg_state s
                      where s.canonical_symbol = d.canonical_symbol and s.timeframe = d.timeframe);
  return jsonb_build_object('success', true, 'tasks_created', created, 'tasks_updated', repaired, 'tasks_disabled', 0,
                            'timestamp_utc', now(), 'env', p_env_name, 'agg_start_utc', p_agg_start_utc);
end $function$;

revoke all on function public._agg_sync_symbols(text, text[], timestamp with time zone) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_try_sync(p_items jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE sql
 SET search_path TO ''
AS $function$
  select jsonb_build_array(public._agg_sync_symbols(p_arguments ->> 'env', public._agg_symbols(p_items),
                                                    (p_arguments ->> 'agg_start_utc')::timestamptz))
$function$;

revoke all on function public._agg_try_sync(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_sync(p_env_name text, p_agg_start_utc timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  isolated record;
begin
  begin
    return public._agg_sync_symbols(p_env_name, null, p_agg_start_utc);
  exception when others then
    if public._agg_is_general(sqlstate) then
      raise;
    end if;
  end;
  select * into isolated from public._agg_isolate('sync', 'select public._agg_try_sync($1, $2)', (
    select jsonb_agg(jsonb_build_object('canonical_symbol', a.canonical_symbol) order by a.canonical_symbol)
      from public.core_asset_registry_all a), jsonb_build_object('env', p_env_name, 'agg_start_utc', p_agg_start_utc));
  return public._agg_sync_symbols(p_env_name, '{}', p_agg_start_utc)
         || (select jsonb_build_object('tasks_created', coalesce(sum((r ->> 'tasks_created')::integer), 0),
                                       'tasks_updated', coalesce(sum((r ->> 'tasks_updated')::integer), 0))
               from jsonb_array_elements(isolated.results) r)
         || jsonb_build_object('failed', (
    select jsonb_agg(f || jsonb_build_object('timeframe', task.timeframe))
      from jsonb_array_elements(isolated.faults) f
     cross join lateral (
        select m.timeframe from public._agg_missing_tasks(p_env_name, array[f ->> 'canonical_symbol']) m
        union
        select s.timeframe from public.data_agg_state s where s.canonical_symbol = f ->> 'canonical_symbol') task));
end $function$;

revoke all on function public._agg_sync(text, timestamp with time zone) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.sync_agg_state_from_registry(p_env_name text DEFAULT 'prod'::text, p_agg_start_utc timestamp with time zone DEFAULT '2025-07-01 00:00:00+00'::timestamp with time zone)
 RETURNS jsonb
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select public._agg_sync(p_env_name, p_agg_start_utc)
$function$;

CREATE OR REPLACE FUNCTION public._agg_is_symbol(p_symbol text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select length(p_symbol) between 1 and 100
     and p_symbol !~ '[\u0001-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]'
     and p_symbol !~ '^[ \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]|[ \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]$'
$function$;

comment on function public._agg_is_symbol(text) is 'True for 1 to 100 characters without control and direction-changing characters and without outer blanks.';
revoke all on function public._agg_is_symbol(text) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.agg_register_asset(p_symbol text, p_agg_start_utc timestamp with time zone, p_base_timeframe text DEFAULT '1m'::text, p_asset_class text DEFAULT NULL::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  asset public.core_asset_registry_all;
  registered boolean;
  synced jsonb;
begin
  if p_symbol is null or not public._agg_is_symbol(p_symbol)
     -- Whoever was registered by another rule stays.
     and not exists (select from public.core_asset_registry_all where canonical_symbol = p_symbol) then
    raise exception '% is no symbol', coalesce(to_jsonb(left(p_symbol, 200))::text, 'null') using errcode = 'AG003',
      hint = 'A symbol has 1 to 100 characters, no control or direction-changing character, and no blank at either end.';
  elsif p_agg_start_utc is null or p_agg_start_utc not between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' then
    raise exception 'tasks of % cannot start at %', p_symbol, coalesce(p_agg_start_utc::text, 'null') using errcode = 'AG003',
      hint = 'p_agg_start_utc is where its first windows start, UTC, between 1900 and 2200.';
  elsif not exists (select from public.agg_timeframes where source_timeframe = p_base_timeframe) then
    raise exception 'nothing is built from base timeframe %', coalesce(p_base_timeframe, 'null') using errcode = 'AG003',
      hint = 'Base timeframes: ' || (select string_agg(distinct source_timeframe, ', ') from public.agg_timeframes) || '.';
  end if;
  insert into public.core_asset_registry_all (canonical_symbol, base_timeframe, asset_class, active, test_active)
  values (p_symbol, p_base_timeframe, p_asset_class, true, true)
  on conflict (canonical_symbol) do nothing;
  registered := found;
  select * into asset from public.core_asset_registry_all where canonical_symbol = p_symbol;
  if coalesce(asset.base_timeframe, '1m') <> p_base_timeframe then
    raise exception '% is registered with base timeframe %, not %', p_symbol, asset.base_timeframe, p_base_timeframe
      using errcode = 'AG003', hint = 'Load bars of its base timeframe, or change the registry first.';
  end if;
  synced := public._agg_sync_symbols(case when asset.active then 'prod' else 'test' end, array[p_symbol], p_agg_start_utc);
  return synced || jsonb_build_object('registered', registered, 'agg_start_utc', (
         select min(agg_start_utc) from public.data_agg_state where canonical_symbol = p_symbol));
end $function$;

CREATE OR REPLACE FUNCTION public._agg_is_stale(p_state public.data_agg_state, p_now_utc timestamp with time zone, p_running_stale_seconds integer)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select p_state.status = 'running'
     and p_now_utc > coalesce(p_state.lease_expires_at,
                              p_state.running_started_at_utc + make_interval(secs => coalesce(p_running_stale_seconds, 900)), '-infinity')
$function$;

comment on function public._agg_is_stale(public.data_agg_state, timestamp with time zone, integer) is 'True if the lease of a task has ended, or a worker without leases has had it for longer than p_running_stale_seconds.';
revoke all on function public._agg_is_stale(public.data_agg_state, timestamp with time zone, integer) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_recover_tasks(p_tasks jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  now_utc constant timestamptz := p_arguments ->> 'now_utc';
  stale_seconds constant integer := p_arguments ->> 'stale_seconds';
  hopeless jsonb;
begin
  with stale as (
    select s.canonical_symbol, s.timeframe
      from public._agg_asked(p_tasks) a
     cross join lateral (
        select * from public.data_agg_state held
         where held.canonical_symbol = a.canonical_symbol and held.timeframe = a.timeframe
           and public._agg_is_stale(held, now_utc, stale_seconds)
         -- A holder in the middle of a call is not stale, whatever the clock says.
           for update skip locked) s
  ), freed as (
    update public.data_agg_state s
       set status = coalesce(s.status_before, 'idle'), status_before = null, running_started_at_utc = null,
           lease_owner = null, lease_seconds = null, lease_expires_at = null,
           transient_streak = s.transient_streak + 1, stale_streak = s.stale_streak + 1,
           next_run_at = now_utc + public._agg_backoff(s.hard_fail_streak + s.transient_streak + 1),
           last_error = left(coalesce(s.last_error, '') || ' | stale_running_recovered', 2000)
      from stale where s.canonical_symbol = stale.canonical_symbol and s.timeframe = stale.timeframe
    returning s.canonical_symbol, s.timeframe, s.stale_streak
  )
  select jsonb_agg(jsonb_build_object('symbol', canonical_symbol, 'timeframe', timeframe, 'stale_streak', stale_streak))
           filter (where stale_streak = 3)
    into hopeless from freed;
  perform public._ops_issue(null, 'critical', 'AGG_STALE', format('%s/%s was left behind by three runs in a row', issue ->> 'symbol',
                            issue ->> 'timeframe'), issue)
     from jsonb_array_elements(hopeless) issue;
  return null;
end $function$;

revoke all on function public._agg_recover_tasks(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_recover_stale(p_now_utc timestamp with time zone, p_running_stale_seconds integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  stale constant jsonb := (
    select jsonb_agg(jsonb_build_object('canonical_symbol', canonical_symbol, 'timeframe', timeframe))
      from public.data_agg_state s where s.status = 'running' and public._agg_is_stale(s, p_now_utc, p_running_stale_seconds));
begin
  if stale is null then
    return '[]';
  end if;
  return (public._agg_isolate('recovery', 'select public._agg_recover_tasks($1, $2)', stale,
                              jsonb_build_object('now_utc', p_now_utc, 'stale_seconds', p_running_stale_seconds))).faults;
end $function$;

revoke all on function public._agg_recover_stale(timestamp with time zone, integer) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_due(p_env_name text, p_now_utc timestamp with time zone, p_symbols text[], p_timeframes text[], p_except jsonb)
 RETURNS TABLE(canonical_symbol text, timeframe text, minutes integer, waiting_since timestamp with time zone)
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
     -- Here, before any time is computed from their rows.
     and (p_except is null or not p_except ? (s.canonical_symbol || '/' || s.timeframe))
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
select c.canonical_symbol, c.timeframe, c.minutes,
       -- A time that can be subtracted, whatever stands in the row.
       greatest(case when c.last_attempted_at_utc <= p_now_utc then c.last_attempted_at_utc end, min(d.since), '1900-01-01 00:00:00+00')
  from due d join candidate c on c.canonical_symbol = d.canonical_symbol and c.timeframe = d.timeframe
 group by c.canonical_symbol, c.timeframe, c.minutes, c.last_attempted_at_utc;
end $function$;

comment on function public._agg_due(text, timestamp with time zone, text[], text[], jsonb) is 'Due tasks and since when each of them waits; none of p_except, an object with SYMBOL/timeframe as keys.';
revoke all on function public._agg_due(text, timestamp with time zone, text[], text[], jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_check_names(p_symbols text[], p_timeframes text[])
 RETURNS void
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
end $function$;

revoke all on function public._agg_check_names(text[], text[]) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_choose(p_env_name text, p_now_utc timestamp with time zone, p_limit integer, p_symbols text[], p_timeframes text[], p_except jsonb, OUT symbols text[], OUT timeframes text[])
 RETURNS record
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
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
end $function$;

comment on function public._agg_choose(text, timestamp with time zone, integer, text[], text[], jsonb) is 'Due tasks that a tick takes, the most urgent symbols first.';
revoke all on function public._agg_choose(text, timestamp with time zone, integer, text[], text[], jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_try_due(p_items jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform from public._agg_due(p_arguments ->> 'env', (p_arguments ->> 'now_utc')::timestamptz, public._agg_symbols(p_items),
                               public._agg_timeframes_of(p_items), null);
  return null;
end $function$;

revoke all on function public._agg_try_due(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_select(p_env_name text, p_now_utc timestamp with time zone, p_limit integer, p_running_stale_seconds integer, p_symbols text[], p_timeframes text[], OUT symbols text[], OUT timeframes text[], OUT failed jsonb)
 RETURNS record
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
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
end $function$;

revoke all on function public._agg_select(text, timestamp with time zone, integer, integer, text[], text[]) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.agg_get_due_tasks(p_env_name text, p_now_utc timestamp with time zone DEFAULT now(), p_limit integer DEFAULT 20, p_running_stale_seconds integer DEFAULT 900, p_symbols text[] DEFAULT NULL::text[], p_timeframes text[] DEFAULT NULL::text[])
 RETURNS TABLE(canonical_symbol text, timeframe text, source_timeframe text, run_interval_minutes integer, aggregation_delay_seconds integer, last_agg_bar_ts_utc timestamp with time zone, status text, hard_fail_streak integer, task_priority integer)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_custom_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
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
end $function$;

CREATE OR REPLACE FUNCTION public.agg_due_tasks(p_env_name text, p_now_utc timestamp with time zone DEFAULT now(), p_limit integer DEFAULT 20, p_running_stale_seconds integer DEFAULT 900, p_symbols text[] DEFAULT NULL::text[], p_timeframes text[] DEFAULT NULL::text[])
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_custom_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
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
end $function$;

comment on function public.agg_due_tasks(text, timestamp with time zone, integer, integer, text[], text[]) is 'agg_get_due_tasks as one JSON value: {tasks, failed}. failed: tasks that were left out since the database raised an error for them, [{canonical_symbol, timeframe, error: {sqlstate, message, hint}}, ...]. AG002: unknown symbol or timeframe.';
revoke all on function public.agg_due_tasks(text, timestamp with time zone, integer, integer, text[], text[]) from public, anon, authenticated, service_role;
grant execute on function public.agg_due_tasks(text, timestamp with time zone, integer, integer, text[], text[]) to service_role;
CREATE OR REPLACE FUNCTION public._agg_load_symbols(p_symbols jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET search_path TO ''
AS $function$
declare
  inserted bigint;
  updated bigint;
begin
  with written as (
    insert into public.data_bars as old (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
                                         is_partial, source, ingested_at, raw)
    select b.canonical_symbol, p_arguments ->> 'timeframe', b.ts_utc, b.open, b.high, b.low, b.close, b.vol, b.vwap, b.trade_count,
           coalesce(b.is_partial, false), p_arguments ->> 'source', now(), '{}'
      from jsonb_array_elements(p_symbols) s
     cross join jsonb_to_recordset(s -> 'bars') b (
             canonical_symbol text, ts_utc timestamptz, open float8, high float8, low float8,
             close float8, vol float8, vwap float8, trade_count integer, is_partial boolean)
     -- In the order of the key: two writers that meet in the same rows wait for each other, and never both.
     order by b.canonical_symbol, b.ts_utc
    on conflict (canonical_symbol, timeframe, ts_utc) do update
       set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
           vwap = excluded.vwap, trade_count = excluded.trade_count, is_partial = excluded.is_partial, ingested_at = now()
     where (old.open, old.high, old.low, old.close, old.vol, old.vwap, old.trade_count, old.is_partial) is distinct from
           (excluded.open, excluded.high, excluded.low, excluded.close, excluded.vol, excluded.vwap, excluded.trade_count,
            excluded.is_partial)
    returning old.xmax = 0 as fresh
  )
  select count(*) filter (where fresh), count(*) filter (where not fresh) into inserted, updated from written;
  return jsonb_build_array(jsonb_build_object('inserted', inserted, 'updated', updated));
end $function$;

revoke all on function public._agg_load_symbols(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.agg_load_bars(p_bars jsonb, p_timeframe text DEFAULT '1m'::text, p_source text DEFAULT 'file'::text)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  arguments constant jsonb := jsonb_build_object('timeframe', p_timeframe, 'source', p_source);
  nameless bigint;
  unknown text;
  isolated record;
  inserted bigint;
  updated bigint;
  failed_bars bigint;
begin
  if p_bars is null or jsonb_typeof(p_bars) <> 'array' then
    raise exception 'a list of bars is needed, not %', coalesce(jsonb_typeof(p_bars), 'null') using errcode = 'AG003',
      hint = 'Pass a JSON array of {canonical_symbol, ts_utc, open, high, low, close, vol, vwap, trade_count}.';
  end if;
  select min(nth) into nameless from jsonb_array_elements(p_bars) with ordinality e (b, nth)
   where b ->> 'canonical_symbol' is null or b ->> 'ts_utc' is null;
  if nameless is not null then
    raise exception 'bar % of the list has no canonical_symbol or no ts_utc', nameless using errcode = 'AG003',
      hint = 'Name both in every bar.';
  end if;
  select string_agg(distinct b ->> 'canonical_symbol', ', ') into unknown from jsonb_array_elements(p_bars) b
   where not exists (select from public.core_asset_registry_all a where a.canonical_symbol = b ->> 'canonical_symbol');
  if unknown is not null then
    raise exception 'unknown symbol: %', unknown using errcode = 'AG002', hint = 'Register it with agg_register_asset.';
  end if;
  begin
    select public._agg_load_symbols(jsonb_build_array(jsonb_build_object('bars', p_bars)), arguments) as results, '[]'::jsonb as faults
      into isolated;
  exception when others then
    if public._agg_is_general(sqlstate) then
      raise;
    end if;
    isolated := null;
  end;
  if isolated is null then  -- by symbol, so that what the database refuses of one costs only its bars
    select * into isolated from public._agg_isolate('load', 'select public._agg_load_symbols($1, $2)', (
      select jsonb_agg(jsonb_build_object('canonical_symbol', s.symbol, 'bars', s.bars) order by s.symbol)
        from (select b ->> 'canonical_symbol' as symbol, jsonb_agg(b order by nth) as bars
                from jsonb_array_elements(p_bars) with ordinality e (b, nth) group by 1) s), arguments);
    if isolated.results = '[]' then
      perform public._agg_raise(isolated.faults -> 0);
    end if;
  end if;
  select coalesce(sum((r ->> 'inserted')::bigint), 0), coalesce(sum((r ->> 'updated')::bigint), 0) into inserted, updated
    from jsonb_array_elements(isolated.results) r;
  select count(*) into failed_bars from jsonb_array_elements(p_bars) b
   where isolated.faults <> '[]' and exists (select from jsonb_array_elements(isolated.faults) f
                                              where f -> 'canonical_symbol' = b -> 'canonical_symbol');
  return jsonb_build_object('inserted', inserted, 'updated', updated,
                            'unchanged', jsonb_array_length(p_bars) - failed_bars - inserted - updated)
         || case when failed_bars > 0 then jsonb_build_object('failed_bars', failed_bars, 'failed', isolated.faults) else '{}' end;
end $function$;

CREATE OR REPLACE FUNCTION public._agg_health_of(p_symbols text[], p_timeframes text[], p_now_utc timestamp with time zone, p_except jsonb)
 RETURNS SETOF public.agg_task_health
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_custom_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_sort TO 'off'
 SET jit TO 'off'
AS $function$
#variable_conflict use_column
declare
  two_ticks constant interval := '10 minutes';
  -- When any task was last tried: who does not come that long has no daemon.
  last_run_utc constant timestamptz := (select max(s.last_attempted_at_utc) from public.data_agg_state s);
begin
  return query
with task as materialized (
  select t.*, slot.length as slot_length, slot.origin_utc as slot_origin, newest.ts_utc as newest_utc,
         date_bin(slot.length, newest.ts_utc, slot.origin_utc) + slot.length as silent_utc,
         date_bin(t.length, p_now_utc, t.origin_utc) as open_window,
         date_bin(slot.length, p_now_utc, slot.origin_utc) as now_slot,
         -- What the cursor stands before. Empty windows wait for nothing: they are passed with the next one that is not.
         coalesce(date_bin(t.length, first.ts_utc, t.origin_utc), t.cursor_utc) as next_window,
         -- Built by now is what ended two ticks ago.
         built.until_utc, greatest(t.first_window, built.until_utc - interval '1 hour') as hour_utc,
         greatest(t.first_window, built.until_utc - interval '24 hours') as day_utc
    from public.agg_tasks t
    join public.agg_timeframes slot on slot.timeframe = t.source_timeframe
   cross join lateral (select date_bin(t.length, p_now_utc - two_ticks, t.origin_utc) as until_utc) built
    left join lateral (
      select b.ts_utc from public.agg_source_bars b
       where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
         and b.timeframe = t.source_timeframe and b.reject_reason is null and b.ts_utc <= p_now_utc
       order by b.ts_utc desc limit 1) newest on true
    left join lateral (
      select b.ts_utc from public.agg_source_bars b
       where newest.ts_utc >= t.cursor_utc + t.length
         and b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
         and b.timeframe = t.source_timeframe and b.reject_reason is null and b.ts_utc >= t.cursor_utc
       order by b.ts_utc limit 1) first on true
   where (p_symbols is null or t.canonical_symbol = any (p_symbols))
     and (p_timeframes is null or t.timeframe = any (p_timeframes))
     and (p_except is null or not p_except ? (t.canonical_symbol || '/' || t.timeframe))
), hours as materialized (
  select h.canonical_symbol, h.timeframe, h.closed
    from (select array_agg((t.canonical_symbol, t.timeframe,
                            least(t.day_utc, t.now_slot, case when t.newest_utc is not null then least(t.next_window, t.silent_utc) end),
                            t.now_slot)::public.agg_range) as ranges
            from task t
           where t.canonical_symbol = any (array(select c.canonical_symbol from public.agg_symbol_calendars c))) work
   cross join lateral public._agg_slots(work.ranges) h
   where work.ranges is not null
), measured as materialized (
  select t.*, o.closed,
         case when t.newest_utc is not null
              then public._agg_open_windows(t.next_window, t.open_window, t.length, t.origin_utc, o.closed) end as lag_windows,
         case when t.newest_utc is not null then extract(epoch from t.slot_length)::bigint
              * public._agg_open_windows(t.next_window, t.open_window, t.slot_length, t.slot_origin, o.closed) end as lag_seconds,
         public._agg_open_windows(t.next_window, date_bin(t.length, t.newest_utc, t.origin_utc), t.length, t.origin_utc, o.closed)
           as backlog_windows,
         extract(epoch from t.slot_length)::bigint
           * public._agg_open_windows(t.silent_utc, t.now_slot, t.slot_length, t.slot_origin, o.closed) as silent_seconds,
         case when t.length <= interval '1 hour'
              then public._agg_open_windows(t.hour_utc, t.until_utc, t.length, t.origin_utc, o.closed) end as expected_hour,
         public._agg_open_windows(t.day_utc, t.until_utc, t.length, t.origin_utc, o.closed) as expected_day,
         t.next_window + t.length + t.delay as due_utc
    from task t left join hours o on o.canonical_symbol = t.canonical_symbol and o.timeframe = t.timeframe
), judged as (
  select m.*, a.is_sparse, a.serves, a.trading_calendar, built.hour_bars, built.day_bars, touched.windows as touched, touched.since_utc, touched.from_utc as touched_from_utc,
         s.status, s.enabled, s.is_mandatory, s.task_priority, s.hard_fail_streak, s.transient_streak, s.stale_streak,
         s.stall_streak, s.last_error, public._agg_fault_reason(f) as fault, f.failures as faults, s.last_attempted_at_utc, s.last_successful_at_utc, s.next_run_at,
         s.paused_at_utc, s.paused_until_utc, s.pause_reason, s.paused_by, s.lease_owner, s.lease_expires_at,
         coalesce(s.lease_expires_at - make_interval(secs => s.lease_seconds), s.running_started_at_utc) as alive_utc,
         s.total_runs, s.total_bars_created, s.total_bars_quality_poor,
         s.paused_at_utc is not null and coalesce(s.paused_until_utc > p_now_utc, true) as is_paused,
         m.slot_length + m.deadline + case when m.source_is_base then interval '0' else two_ticks end
           + case when a.is_sparse then interval '1 day' else interval '0' end as patience
    from measured m
    join public.data_agg_state s on s.canonical_symbol = m.canonical_symbol and s.timeframe = m.timeframe
    left join public.agg_task_faults f on f.canonical_symbol = m.canonical_symbol and f.timeframe = m.timeframe
    join (select r.canonical_symbol, r.trading_calendar, coalesce(r.is_sparse, false) as is_sparse,
                 coalesce(r.active, false) or coalesce(r.test_active, false) as serves
            from public.core_asset_registry_all r) a on a.canonical_symbol = m.canonical_symbol
    left join lateral (
      select count(*) filter (where d.ts_utc >= m.hour_utc) as hour_bars, count(*) as day_bars
        from public.derived_data_bars d
       where d.canonical_symbol = m.canonical_symbol and d.timeframe = m.timeframe and d.deleted_at is null
         and d.ts_utc >= m.day_utc and d.ts_utc < m.until_utc
         and (m.closed is null or d.expected_candles > 0)) built on true
    left join lateral (
      select logged.since_utc, sum(extract(epoch from upper(run) - lower(run)) / 60 / m.minutes)::integer as windows,
             date_bin(m.length, min(lower(run)), m.origin_utc) as from_utc
        from (select min(d.logged_at) as since_utc,
                     range_agg(tstzrange(d.from_utc, d.to_utc)) * tstzmultirange(tstzrange(m.first_window, m.cursor_utc)) as runs
                from public.agg_dirty_ranges d
               where d.canonical_symbol = m.canonical_symbol and d.timeframe = m.timeframe) logged
        left join lateral unnest(logged.runs) run on true
       group by logged.since_utc) touched on true
), told as materialized (
select j.*, w.state, w.reason
  from judged j
 cross join lateral (
   select case when j.trading_calendar <> '24x7' and not exists (
                 select from public.agg_symbol_calendars c
                  where c.canonical_symbol = j.canonical_symbol and c.from_utc <= p_now_utc and c.to_utc > p_now_utc)
               then format('the sessions of %s are not known, so all time counts: agg-pipeline calendars --apply', j.trading_calendar) end as blind) hours
 cross join lateral (
   select w.state, w.reason
     from (values
       (j.status = 'disabled', 'disabled', format('stopped after %s failures in a row', j.hard_fail_streak)),
       (not j.enabled, 'disabled', 'enabled is false'),
       (not j.serves, 'disabled', 'the asset is active in no environment'),
       (j.is_paused, 'paused', format('by %s since %s%s: %s', coalesce(j.paused_by, '?'), public._agg_minute(j.paused_at_utc),
          ' until ' || public._agg_minute(j.paused_until_utc), coalesce(j.pause_reason, 'no reason given'))),
       (j.fault is not null, 'failed', j.fault),
       -- One transient failure mostly heals by itself.
       (j.status = 'hard_failed' or j.hard_fail_streak > 0 or j.transient_streak > 1, 'failed',
          format('%s at the window of %s%s', case j.hard_fail_streak + j.transient_streak when 1 then '1 failure'
                   else j.hard_fail_streak + j.transient_streak || ' failures in a row' end,
                 public._agg_minute(least(j.touched_from_utc, j.next_window)),
                 case when j.next_run_at > p_now_utc then '; next try ' || public._agg_minute(j.next_run_at) end)),
       (j.stall_streak > 1, 'stalled', format('%s runs succeeded and left the cursor at %s, though the source has gone on',
          j.stall_streak, public._agg_minute(j.cursor_utc))),
       (j.backlog_windows > 0 and j.due_utc + two_ticks < p_now_utc and j.since_utc < p_now_utc - 3 * two_ticks
        and coalesce(last_run_utc < p_now_utc - 3 * two_ticks, true), 'stalled',
          format('bars wait since %s, and no task was %s', public._agg_minute(j.since_utc),
                 coalesce('run since ' || public._agg_minute(last_run_utc), 'ever run'))),
       -- A run that is alive renews its leases every few seconds.
       (j.status = 'running' and j.backlog_windows > 0 and j.due_utc + two_ticks < p_now_utc
        and j.alive_utc < p_now_utc - two_ticks, 'stalled', format('the run that has it is silent since %s', public._agg_minute(j.alive_utc))),
       (j.newest_utc is null, 'waiting for data', format('there is no valid %s bar in %s%s', j.source_timeframe,
          case when j.source_is_base then 'data_bars' else 'derived_data_bars' end,
          case when j.source_is_base and exists (
                 select from public.derived_data_bars d where d.canonical_symbol = j.canonical_symbol
                    and d.timeframe = j.source_timeframe and d.deleted_at is null) then '; derived_data_bars has some: the feed writes there'
               when j.source_is_base and exists (
                 select from public.data_bars b where b.canonical_symbol = j.canonical_symbol and b.timeframe = j.source_timeframe)
                 then '; all that is there is rejected, or of the future' end)),
       (j.backlog_windows > 0 and j.due_utc + two_ticks < p_now_utc, 'catching up', format('%s windows behind its source', j.backlog_windows)),
       -- More than a tick takes, if nobody has told it to take more.
       (j.touched > 100 or j.touched > 0 and j.since_utc < p_now_utc - two_ticks, 'catching up', format('%s windows wait to be built again', j.touched)),
       (make_interval(secs => j.silent_seconds) > j.patience, 'waiting for source', format('no %s bar since %s, %s of open market%s',
          j.source_timeframe, public._agg_minute(j.newest_utc), public._agg_duration(j.silent_seconds), '; ' || hours.blind)),
       (true, 'current', hours.blind)) w (holds, state, reason)
    where w.holds limit 1) w
)
select j.canonical_symbol, j.timeframe, j.source_timeframe, j.state,
       coalesce(waits.reason, j.reason),
       j.lag_windows, j.lag_seconds, j.backlog_windows, coalesce(j.touched, 0), j.touched_from_utc, j.silent_seconds,
       case when j.expected_hour > 0 then least(1, j.hour_bars / j.expected_hour::double precision) end,
       case when j.expected_day > 0 then least(1, j.day_bars / j.expected_day::double precision) end,
       j.stored_cursor_utc, j.next_window, j.first_window, j.newest_utc,
       j.status, j.enabled, j.is_mandatory, j.task_priority,
       least(j.hard_fail_streak::bigint + coalesce(j.faults, 0), 2147483647)::integer, j.transient_streak, j.stale_streak, j.stall_streak,
       coalesce(j.fault, j.last_error), j.last_attempted_at_utc, j.last_successful_at_utc, j.next_run_at,
       j.paused_at_utc, j.paused_until_utc, j.pause_reason, j.paused_by, j.lease_owner, j.lease_expires_at,
       j.total_runs, j.total_bars_created, j.total_bars_quality_poor, waits.reason is not null
  from told j
  left join told source on not j.source_is_base and source.canonical_symbol = j.canonical_symbol
       and source.timeframe = j.source_timeframe
 -- A task that waits for another task of its symbol names that one, which is the one to be looked at.
 cross join lateral (
   select case when j.state in ('waiting for source', 'waiting for data') and source.state <> 'current'
               then format('its source %s is %s', source.timeframe, source.state)
               when j.state = 'waiting for data' and source.timeframe is not null
               then format('its source %s has no bar yet', source.timeframe)
               when j.state = 'waiting for source' and source.backlog_windows + coalesce(source.touched, 0) > 0
               then format('its source %s is to be built first', source.timeframe) end as reason) waits;
end $function$;

comment on function public._agg_health_of(text[], text[], timestamp with time zone, jsonb) is 'Rows of v_aggregation_health as of a time, without those of p_except, an object with SYMBOL/timeframe as keys.';
revoke all on function public._agg_health_of(text[], text[], timestamp with time zone, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_try_health(p_items jsonb, p_arguments jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
AS $function$
begin
  perform from public._agg_health_of(public._agg_symbols(p_items), public._agg_timeframes_of(p_items),
                                     (p_arguments ->> 'now_utc')::timestamptz, null);
  return null;
end $function$;

revoke all on function public._agg_try_health(jsonb, jsonb) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public._agg_health(p_symbols text[], p_now_utc timestamp with time zone)
 RETURNS SETOF public.agg_task_health
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  arguments constant jsonb := jsonb_build_object('now_utc', p_now_utc);
  failed jsonb := public._agg_find_faults('health', 'select public._agg_try_health($1, $2)', arguments, p_symbols, 'known');
begin
  for attempt in 1..3 loop
    begin
      -- From a function, which gives all rows or none.
      return query select * from public._agg_health_of(p_symbols, null, p_now_utc, public._agg_keys(failed));
      exit;
    exception when others then
      if attempt = 3 or public._agg_is_general(sqlstate) then
        raise;
      end if;
    end;
    failed := public._agg_find_faults('health', 'select public._agg_try_health($1, $2)', arguments, p_symbols,
                                      (array['task', 'symbol'])[attempt]);
  end loop;
  -- What cannot be computed, and tasks that could not be created: what is known of them.
  return query
  select (jsonb_populate_record(null::public.agg_task_health,
            jsonb_build_object('status', 'idle', 'enabled', true, 'is_mandatory', true, 'transient_streak', 0, 'stale_streak', 0,
                               'stall_streak', 0, 'total_runs', 0, 'total_bars_created', 0, 'total_bars_quality_poor', 0)
            || coalesce(to_jsonb(s), '{}')
            || jsonb_build_object(
                 'canonical_symbol', left_out.canonical_symbol, 'timeframe', left_out.timeframe,
                 'source_timeframe', t.source_timeframe, 'state', 'failed', 'reason', left_out.reason, 'last_error', left_out.reason,
                 'touched_windows', 0, 'waits_for_task', false, 'hard_fail_streak', least(coalesce(s.hard_fail_streak, 0)::bigint + left_out.failures, 2147483647),
                 'cursor_utc', case when task.is_possible then s.last_agg_bar_ts_utc end))).*
    from (select e ->> 'canonical_symbol' as canonical_symbol, e ->> 'timeframe' as timeframe,
                 coalesce(public._agg_fault_reason(f), format('%s (%s). %s', e #>> '{error,message}', e #>> '{error,sqlstate}', e #>> '{error,hint}'))
                   as reason, coalesce(f.failures, 1) as failures
            from jsonb_array_elements(failed) e
            left join public.agg_task_faults f
              on f.canonical_symbol = e ->> 'canonical_symbol' and f.timeframe = e ->> 'timeframe'
          union all
          select f.canonical_symbol, f.timeframe, public._agg_fault_reason(f), f.failures
            from public.agg_task_faults f
           where (p_symbols is null or f.canonical_symbol = any (p_symbols))
             and not exists (select from public.data_agg_state s
                              where s.canonical_symbol = f.canonical_symbol and s.timeframe = f.timeframe)) left_out
    join public.agg_timeframes t on t.timeframe = left_out.timeframe
    left join public.data_agg_state s on s.canonical_symbol = left_out.canonical_symbol and s.timeframe = left_out.timeframe
    left join public.agg_tasks task on task.canonical_symbol = s.canonical_symbol and task.timeframe = s.timeframe;
end $function$;

comment on function public._agg_health(text[], timestamp with time zone) is 'Rows of v_aggregation_health as of a time. A task for which they cannot be computed is failed, with the error as reason.';
revoke all on function public._agg_health(text[], timestamp with time zone) from public, anon, authenticated, service_role;
create or replace view public.v_aggregation_health with (security_invoker=true) as
 SELECT _agg_health.canonical_symbol,
    _agg_health.timeframe,
    _agg_health.source_timeframe,
    _agg_health.state,
    _agg_health.reason,
    _agg_health.lag_windows,
    _agg_health.lag_seconds,
    _agg_health.backlog_windows,
    _agg_health.touched_windows,
    _agg_health.touched_from_utc,
    _agg_health.source_silent_seconds,
    _agg_health.completeness_hour,
    _agg_health.completeness_day,
    _agg_health.cursor_utc,
    _agg_health.next_window_utc,
    _agg_health.first_window_utc,
    _agg_health.newest_source_utc,
    _agg_health.status,
    _agg_health.enabled,
    _agg_health.is_mandatory,
    _agg_health.task_priority,
    _agg_health.hard_fail_streak,
    _agg_health.transient_streak,
    _agg_health.stale_streak,
    _agg_health.stall_streak,
    _agg_health.last_error,
    _agg_health.last_attempted_at_utc,
    _agg_health.last_successful_at_utc,
    _agg_health.next_run_at,
    _agg_health.paused_at_utc,
    _agg_health.paused_until_utc,
    _agg_health.pause_reason,
    _agg_health.paused_by,
    _agg_health.lease_owner,
    _agg_health.lease_expires_at,
    _agg_health.total_runs,
    _agg_health.total_bars_created,
    _agg_health.total_bars_quality_poor,
    _agg_health.waits_for_task
   FROM public._agg_health(NULL::text[], now()) _agg_health(canonical_symbol, timeframe, source_timeframe, state, reason, lag_windows, lag_seconds, backlog_windows, touched_windows, touched_from_utc, source_silent_seconds, completeness_hour, completeness_day, cursor_utc, next_window_utc, first_window_utc, newest_source_utc, status, enabled, is_mandatory, task_priority, hard_fail_streak, transient_streak, stale_streak, stall_streak, last_error, last_attempted_at_utc, last_successful_at_utc, next_run_at, paused_at_utc, paused_until_utc, pause_reason, paused_by, lease_owner, lease_expires_at, total_runs, total_bars_created, total_bars_quality_poor, waits_for_task);

CREATE OR REPLACE FUNCTION public._agg_time_or_null(p_time_utc timestamp with time zone)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE
 SET search_path TO ''
AS $function$
  select p_time_utc where p_time_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00'
$function$;

revoke all on function public._agg_time_or_null(timestamp with time zone) from public, anon, authenticated, service_role;
CREATE OR REPLACE FUNCTION public.agg_health(p_symbols text[] DEFAULT NULL::text[], p_now_utc timestamp with time zone DEFAULT now())
 RETURNS jsonb
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
  select coalesce(jsonb_agg(to_jsonb(h) || case when strange then jsonb_build_object(
             'last_attempted_at_utc', public._agg_time_or_null(h.last_attempted_at_utc),
             'last_successful_at_utc', public._agg_time_or_null(h.last_successful_at_utc),
             'next_run_at', public._agg_time_or_null(h.next_run_at),
             'paused_at_utc', public._agg_time_or_null(h.paused_at_utc),
             'paused_until_utc', public._agg_time_or_null(h.paused_until_utc),
             'lease_expires_at', public._agg_time_or_null(h.lease_expires_at)) else '{}' end
           order by h.canonical_symbol, t.minutes), '[]')
    from public._agg_health(p_symbols, coalesce(p_now_utc, now())) h join public.agg_timeframes t on t.timeframe = h.timeframe
   cross join lateral (select not coalesce(
           least(h.last_attempted_at_utc, h.last_successful_at_utc, h.next_run_at, h.paused_at_utc, h.paused_until_utc,
                 h.lease_expires_at) >= '1900-01-01 00:00:00+00'
           and greatest(h.last_attempted_at_utc, h.last_successful_at_utc, h.next_run_at, h.paused_at_utc, h.paused_until_utc,
                        h.lease_expires_at) <= '2200-01-01 00:00:00+00', true) as strange) times
$function$;

CREATE OR REPLACE FUNCTION public.agg_contract()
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$ select 3 $function$;

CREATE OR REPLACE FUNCTION public._agg_windows_of(p_symbol text, p_tf text, p_from_utc timestamp with time zone, p_to_utc timestamp with time zone)
 RETURNS public.agg_range
 LANGUAGE plpgsql
 STABLE
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
declare
  task public.agg_tasks;
begin
  if exists (select from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf and not t.is_possible) then
    perform public._agg_raise(public._agg_fault('reading', jsonb_build_object('canonical_symbol', p_symbol, 'timeframe', p_tf),
      'AG003', 'its cursor, start or next run is no time between 1900 and 2200', null));
  end if;
  select * into task from public.agg_tasks where canonical_symbol = p_symbol and timeframe = p_tf;
  if task.canonical_symbol is null then
    raise exception 'there is no task %/%', coalesce(p_symbol, 'null'), coalesce(p_tf, 'null') using errcode = 'AG002',
      hint = coalesce('Tasks of ' || p_symbol || ': ' || (
        select string_agg(t.timeframe, ', ' order by t.minutes) from public.agg_tasks t where t.canonical_symbol = p_symbol) || '.',
        'Add the asset to core_asset_registry_all and call sync_agg_state_from_registry.');
  elsif p_from_utc is null or p_to_utc is null or not isfinite(p_from_utc) or not isfinite(p_to_utc) or p_from_utc >= p_to_utc then
    raise exception '% to % is no range of time of %/%', coalesce(p_from_utc::text, 'null'), coalesce(p_to_utc::text, 'null'),
      p_symbol, p_tf using errcode = 'AG003', hint = 'Give two times; p_to_utc is the later one and not part of the range.';
  end if;
  return (p_symbol, p_tf, date_bin(task.length, p_from_utc, task.origin_utc),
          date_bin(task.length, p_to_utc - interval '1 microsecond', task.origin_utc) + task.length)::public.agg_range;
end $function$;

CREATE OR REPLACE FUNCTION public._agg_bad_cursors(p_now_utc timestamp with time zone)
 RETURNS TABLE(canonical_symbol text, timeframe text, kind text, from_utc timestamp with time zone, to_utc timestamp with time zone, windows integer)
 LANGUAGE sql
 STABLE
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
AS $function$
  select t.canonical_symbol, t.timeframe, judged.kind, t.stored_cursor_utc,
         case judged.kind when 'future' then home.window_utc when 'off_grid' then t.cursor_utc else t.stored_cursor_utc end,
         greatest(0, extract(epoch from home.window_utc - t.cursor_utc) / 60 / t.minutes)::integer
    from public.agg_tasks t
    -- A task of the base timeframe or below has nothing to be built from, wherever its cursor stands.
    join public.agg_timeframes base on base.timeframe = t.base_timeframe and base.minutes < t.minutes
    left join lateral (
      select b.ts_utc from public.agg_source_bars b
       where b.is_base and b.canonical_symbol = t.canonical_symbol and b.timeframe = t.base_timeframe
         and b.reject_reason is null and b.ts_utc <= p_now_utc
       order by b.ts_utc desc limit 1) newest on true
   cross join lateral (
      select case when newest.ts_utc >= t.first_window then date_bin(t.length, newest.ts_utc, t.origin_utc) end as window_utc) home
    left join public.agg_tasks source on not t.source_is_base
         and source.canonical_symbol = t.canonical_symbol and source.timeframe = t.source_timeframe and source.is_possible
   cross join lateral (
      select case
        when t.cursor_utc > coalesce(home.window_utc + t.length, t.first_window) then 'future'
        when t.stored_cursor_utc >= t.first_window and t.stored_cursor_utc <> t.cursor_utc then 'off_grid'
        when home.window_utc > t.cursor_utc
             and not exists (select from public.agg_source_bars b
                              where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
                                and b.timeframe = t.source_timeframe and b.reject_reason is null
                                and b.ts_utc >= t.cursor_utc and b.ts_utc < t.cursor_utc + t.length)
             -- Empty because its source has yet to be built is no stall.
             and (t.source_is_base or source.cursor_utc >= t.cursor_utc + t.length
                  or not exists (select from public.agg_source_bars b
                                  where b.is_base and b.canonical_symbol = t.canonical_symbol
                                    and b.timeframe = t.base_timeframe and b.reject_reason is null
                                    and b.ts_utc >= t.cursor_utc and b.ts_utc < t.cursor_utc + t.length)) then 'frozen'
      end as kind) judged
   where t.stored_cursor_utc is not null and judged.kind is not null
     and t.is_possible
  union all
  -- Set back to nothing, the first window is the next: bars that are right stay as they are.
  select t.canonical_symbol, t.timeframe, 'impossible', null,
         case when t.stored_cursor_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' then t.stored_cursor_utc end, null
    from public.agg_tasks t where not t.is_possible
   order by 1, 2
$function$;

CREATE OR REPLACE FUNCTION public.agg_mend_cursors(p_symbols text[] DEFAULT NULL::text[], p_dry_run boolean DEFAULT true, p_now_utc timestamp with time zone DEFAULT now())
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_custom_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '4s'
AS $function$
declare
  dry_run constant boolean := coalesce(p_dry_run, true);
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  bad jsonb;
begin
  if not dry_run then
    perform from public.data_agg_state s where p_symbols is null or s.canonical_symbol = any (p_symbols)
      order by s.canonical_symbol, s.timeframe for update;
  end if;
  -- A statement of its own, after the locks. What is leased is left to its holder, who moves the cursor himself.
  select coalesce(jsonb_agg(to_jsonb(c) order by c.canonical_symbol, c.timeframe, c.kind), '[]') into bad from (
    select b.*, case when s.lease_expires_at is null then s.status = 'running' and not public._agg_is_stuck(s, now_utc)
                     else s.lease_expires_at > now_utc end as leased
      from public._agg_bad_cursors(now_utc) b
      join public.data_agg_state s on s.canonical_symbol = b.canonical_symbol and s.timeframe = b.timeframe
    union all
    select s.canonical_symbol, s.timeframe, 'stuck', s.last_agg_bar_ts_utc, s.last_agg_bar_ts_utc, null, false
      from public.data_agg_state s where public._agg_is_stuck(s, now_utc)) c
   where p_symbols is null or c.canonical_symbol = any (p_symbols);
  if not dry_run then
    update public.data_agg_state s set status = 'idle', status_before = null, running_started_at_utc = null, next_run_at = null
     where public._agg_is_stuck(s, now_utc) and (p_symbols is null or s.canonical_symbol = any (p_symbols));
    update public.data_agg_state s set last_agg_bar_ts_utc = c.to_utc, next_run_at = null
      from jsonb_to_recordset(bad) c (canonical_symbol text, timeframe text, kind text, to_utc timestamptz, leased boolean)
     where s.canonical_symbol = c.canonical_symbol and s.timeframe = c.timeframe and c.kind in ('future', 'off_grid', 'impossible') and not c.leased;
  end if;
  return bad;
end $function$;

CREATE OR REPLACE FUNCTION public.agg_bars_page(p_symbol text, p_from_utc timestamp with time zone, p_to_utc timestamp with time zone)
 RETURNS json
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_custom_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
AS $function$
  select json_build_object(
    'tasks', (select coalesce(json_agg(json_build_object(
                'timeframe', t.timeframe, 'base_timeframe', t.base_timeframe,
                'first_window_utc', t.first_window, 'cursor_utc', t.cursor_utc)), '[]')
                from public.agg_tasks t where t.canonical_symbol = p_symbol and t.is_possible),
    'touched', (select coalesce(json_agg(json_build_object(
                  'timeframe', d.timeframe, 'from_utc', d.from_utc, 'to_utc', d.to_utc)), '[]')
                  from public.agg_dirty_ranges d
                 where d.canonical_symbol = p_symbol and d.from_utc < p_to_utc and d.to_utc > p_from_utc),
    'schedules', (select coalesce(json_agg(json_build_object('from_utc', c.from_utc, 'to_utc', c.to_utc, 'sessions', (
                    select coalesce(json_agg(json_build_array(s.open_utc, s.close_utc) order by s.open_utc), '[]')
                      from public.trading_sessions s
                     where s.calendar = c.calendar and s.open_utc < p_to_utc and s.open_utc > p_from_utc - interval '168 hours'
                       and s.close_utc > p_from_utc))), '[]')
                    from public.agg_symbol_calendars c
                   where c.canonical_symbol = p_symbol and c.from_utc < p_to_utc and c.to_utc > p_from_utc),
    'raw', (select json_build_object(
              'timeframe', coalesce(json_agg(b.timeframe), '[]'),
              'ts_us', coalesce(json_agg((extract(epoch from b.ts_utc) * 1000000)::bigint), '[]'),
              'open', coalesce(json_agg(b.open), '[]'), 'high', coalesce(json_agg(b.high), '[]'),
              'low', coalesce(json_agg(b.low), '[]'), 'close', coalesce(json_agg(b.close), '[]'),
              'vol', coalesce(json_agg(b.vol), '[]'), 'vwap', coalesce(json_agg(b.vwap), '[]'),
              'trade_count', coalesce(json_agg(b.trade_count), '[]'), 'is_partial', coalesce(json_agg(b.is_partial), '[]'))
              from public.data_bars b
              join (select distinct t.base_timeframe from public.agg_tasks t where t.canonical_symbol = p_symbol) base
                on base.base_timeframe = b.timeframe
             where b.canonical_symbol = p_symbol and b.ts_utc >= p_from_utc and b.ts_utc < p_to_utc),
    'derived', (select json_build_object(
              'timeframe', coalesce(json_agg(d.timeframe), '[]'),
              'ts_us', coalesce(json_agg((extract(epoch from d.ts_utc) * 1000000)::bigint), '[]'),
              'open', coalesce(json_agg(d.open), '[]'), 'high', coalesce(json_agg(d.high), '[]'),
              'low', coalesce(json_agg(d.low), '[]'), 'close', coalesce(json_agg(d.close), '[]'),
              'vol', coalesce(json_agg(d.vol), '[]'), 'vwap', coalesce(json_agg(d.vwap), '[]'),
              'trade_count', coalesce(json_agg(d.trade_count), '[]'), 'is_partial', coalesce(json_agg(d.is_partial), '[]'),
              'source_candles', coalesce(json_agg(d.source_candles), '[]'),
              'expected_candles', coalesce(json_agg(d.expected_candles), '[]'),
              'quality_score', coalesce(json_agg(d.quality_score), '[]'))
              from public.derived_data_bars d
              join public.agg_tasks t on t.canonical_symbol = d.canonical_symbol and t.timeframe = d.timeframe
               and t.is_possible
             where d.canonical_symbol = p_symbol and d.deleted_at is null and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc))
$function$;

comment on function public._agg_bad_cursors(timestamp with time zone) is 'Cursors that are future, off_grid, frozen or impossible, where they belong (to_utc), and how many windows they are behind the data.';
comment on function public.agg_gaps(text, text, timestamp with time zone, timestamp with time zone, timestamp with time zone) is 'Runs of absent source bars of a task: closed (none was expected), quiet (the asset is_sparse) or missing, with the number of bars that were expected; to_utc is not part of the run. A set: a hosted REST API cuts it at 1,000 rows; agg_gap_report is not cut. AG002: no such task, AG003: no range.';
comment on function public.agg_get_due_tasks(text, timestamp with time zone, integer, integer, text[], text[]) is 'Due tasks of an environment, shorter timeframes first, at most p_limit (null: all); a symbol''s due chain stays together. Syncs with the registry and frees stale leases on the way. A set: a hosted REST API cuts it at 1,000 rows; agg_due_tasks is not cut. AG002: unknown symbol or timeframe.';
comment on function public.agg_load_bars(jsonb, text, text) is 'Upserts raw bars [{canonical_symbol, ts_utc, open, high, low, close, vol, vwap, trade_count}, ...]; {inserted, updated, unchanged} and, if the database refused the bars of a symbol, failed_bars and failed: [{canonical_symbol, error: {sqlstate, message, hint}}]. AG002: symbol not registered; AG003: no list of bars.';
comment on function public.agg_mend_cursors(text[], boolean, timestamp with time zone) is 'Lists (p_dry_run, the default) or mends: frees tasks that an older worker left running (stuck), sets cursors that are in the future of their data to the window of the newest base bar, those off the grid onto it, and impossible ones to none, so that the task begins again at its first window. frozen ones are listed only: the next tick passes them.';
comment on function public.bars_as_of(text, text, timestamp with time zone, timestamp with time zone, timestamp with time zone) is 'Rows of derived_data_bars with ts_utc in [p_from_utc, p_to_utc) as they were at p_as_of_utc: at most one a bar, by time. A set: a hosted REST API cuts it at 1,000 rows.';
comment on table public.agg_task_faults is 'Tasks that a phase of the tick (sync, recovery, due, start, finish) left out since the database raised an error for them. A row goes when the phase succeeds again.';
comment on type public.agg_task_health is 'A row of v_aggregation_health.';
comment on view public.agg_tasks is 'Tasks with their window arithmetic. first_window: first that starts at or after agg_start_utc; cursor_utc: next window to process. is_possible: false if the cursor, the start or the next run is no time between 1900 and 2200, and computing the others may fail.';
revoke all on table public.agg_task_faults from public, anon, authenticated, service_role;
grant select on table public.agg_task_faults to service_role;
notify pgrst, 'reload schema';
