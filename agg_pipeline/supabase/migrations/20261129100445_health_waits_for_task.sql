-- health waits for task: _agg_health, agg_contract, v_aggregation_health.
-- Written by `make migration` from supabase/schemas, where the reasons are. Needs: all migrations before it.
-- Repeat: yes. Undo: the same objects as the version before has them.
set local lock_timeout = '10s';

create or replace view public.v_aggregation_health with (security_invoker=true) as select null::text as canonical_symbol, null::text as timeframe, null::text as source_timeframe, null::text as state, null::text as reason, null::integer as lag_windows, null::bigint as lag_seconds, null::integer as backlog_windows, null::integer as touched_windows, null::timestamp with time zone as touched_from_utc, null::bigint as source_silent_seconds, null::double precision as completeness_hour, null::double precision as completeness_day, null::timestamp with time zone as cursor_utc, null::timestamp with time zone as next_window_utc, null::timestamp with time zone as first_window_utc, null::timestamp with time zone as newest_source_utc, null::text as status, null::boolean as enabled, null::boolean as is_mandatory, null::integer as task_priority, null::integer as hard_fail_streak, null::integer as transient_streak, null::integer as stale_streak, null::integer as stall_streak, null::text as last_error, null::timestamp with time zone as last_attempted_at_utc, null::timestamp with time zone as last_successful_at_utc, null::timestamp with time zone as next_run_at, null::timestamp with time zone as paused_at_utc, null::timestamp with time zone as paused_until_utc, null::text as pause_reason, null::text as paused_by, null::text as lease_owner, null::timestamp with time zone as lease_expires_at, null::bigint as total_runs, null::bigint as total_bars_created, null::bigint as total_bars_quality_poor, null::boolean as waits_for_task;
-- squawk-ignore ban-drop-function
drop function if exists public._agg_health(text[], timestamp with time zone);

CREATE OR REPLACE FUNCTION public._agg_health(p_symbols text[], p_now_utc timestamp with time zone)
 RETURNS TABLE(canonical_symbol text, timeframe text, source_timeframe text, state text, reason text, lag_windows integer, lag_seconds bigint, backlog_windows integer, touched_windows integer, touched_from_utc timestamp with time zone, source_silent_seconds bigint, completeness_hour double precision, completeness_day double precision, cursor_utc timestamp with time zone, next_window_utc timestamp with time zone, first_window_utc timestamp with time zone, newest_source_utc timestamp with time zone, status text, enabled boolean, is_mandatory boolean, task_priority integer, hard_fail_streak integer, transient_streak integer, stale_streak integer, stall_streak integer, last_error text, last_attempted_at_utc timestamp with time zone, last_successful_at_utc timestamp with time zone, next_run_at timestamp with time zone, paused_at_utc timestamp with time zone, paused_until_utc timestamp with time zone, pause_reason text, paused_by text, lease_owner text, lease_expires_at timestamp with time zone, total_runs bigint, total_bars_created bigint, total_bars_quality_poor bigint, waits_for_task boolean)
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
   where p_symbols is null or t.canonical_symbol = any (p_symbols)
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
         s.stall_streak, s.last_error, s.last_attempted_at_utc, s.last_successful_at_utc, s.next_run_at,
         s.paused_at_utc, s.paused_until_utc, s.pause_reason, s.paused_by, s.lease_owner, s.lease_expires_at,
         coalesce(s.lease_expires_at - make_interval(secs => s.lease_seconds), s.running_started_at_utc) as alive_utc,
         s.total_runs, s.total_bars_created, s.total_bars_quality_poor,
         s.paused_at_utc is not null and coalesce(s.paused_until_utc > p_now_utc, true) as is_paused,
         m.slot_length + m.deadline + case when m.source_is_base then interval '0' else two_ticks end
           + case when a.is_sparse then interval '1 day' else interval '0' end as patience
    from measured m
    join public.data_agg_state s on s.canonical_symbol = m.canonical_symbol and s.timeframe = m.timeframe
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
       j.hard_fail_streak, j.transient_streak, j.stale_streak, j.stall_streak, j.last_error,
       j.last_attempted_at_utc, j.last_successful_at_utc, j.next_run_at,
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

comment on function public._agg_health(text[], timestamp with time zone) is 'Rows of v_aggregation_health as of a time.';
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

CREATE OR REPLACE FUNCTION public.agg_contract()
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$ select 2 $function$;

comment on view public.v_aggregation_health is 'One row per task. state: disabled, paused, failed (a hard failure, or two transient ones in a row), stalled (runs succeed and the cursor stays, the run that has it is silent while bars wait, or nothing runs), waiting for data (there never was any), catching up, waiting for source (silent for longer than the deadline while the market is open) or current; reason says why. waits_for_task: the task waits for another task of its symbol, which reason names. lag is by the session clock, backlog_windows by the source; completeness: bars built of windows expected, null if none were.';
notify pgrst, 'reload schema';
