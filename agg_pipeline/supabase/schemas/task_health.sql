-- task health: how each task stands and why, for operators, the command status, checks and alerts.
-- Called by: _agg_health. Needs: tasks, source_bars, slots, session_clock.
--
-- Time is counted by the session clock: in a closed market nothing lags and nothing is silent. A task without a
-- calendar has no closed time, and costs two index lookups and a count.

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
comment on type public.agg_task_health is 'A row of v_aggregation_health.';

create function public._agg_health_of(p_symbols text[], p_timeframes text[], p_now_utc timestamptz, p_except jsonb)
returns setof public.agg_task_health
language plpgsql stable set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
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
end $$;
comment on function public._agg_health_of(text[], text[], timestamptz, jsonb) is
  'Rows of v_aggregation_health as of a time, without those of p_except, an object with SYMBOL/timeframe as keys.';
revoke execute on function public._agg_health_of(text[], text[], timestamptz, jsonb) from public, anon, authenticated, service_role;
