-- health: v_aggregation_health and agg_health, with the tasks that cannot be computed.
-- Called by: AggGateway.health, operators. Needs: task_health, isolation.

create function public._agg_try_health(p_items jsonb, p_arguments jsonb)
returns jsonb language plpgsql stable set search_path = '' as $$
begin
  perform from public._agg_health_of(public._agg_symbols(p_items), public._agg_timeframes_of(p_items),
                                     (p_arguments ->> 'now_utc')::timestamptz, null);
  return null;
end $$;
revoke execute on function public._agg_try_health(jsonb, jsonb) from public, anon, authenticated, service_role;

create function public._agg_health(p_symbols text[], p_now_utc timestamptz)
returns setof public.agg_task_health language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
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
end $$;
comment on function public._agg_health(text[], timestamptz) is
  'Rows of v_aggregation_health as of a time. A task for which they cannot be computed is failed, with the error as reason.';
revoke execute on function public._agg_health(text[], timestamptz) from public, anon, authenticated, service_role;

create view public.v_aggregation_health with (security_invoker = true) as select * from public._agg_health(null, now());
revoke all on table public.v_aggregation_health from public, anon, authenticated, service_role;
comment on view public.v_aggregation_health is
  'One row per task. state: disabled, paused, failed (a hard failure, or two transient ones in a row), stalled (runs succeed and the cursor stays, the run that has it is silent while bars wait, or nothing runs), waiting for data (there never was any), catching up, waiting for source (silent for longer than the deadline while the market is open) or current; reason says why. waits_for_task: the task waits for another task of its symbol, which reason names. lag is by the session clock, backlog_windows by the source; completeness: bars built of windows expected, null if none were.';

-- Few clients have a time for infinity or the year 294276: as an end it is none.
create function public._agg_time_or_null(p_time_utc timestamptz)
returns timestamptz language sql immutable set search_path = '' as $$
  select p_time_utc where p_time_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00'
$$;
revoke execute on function public._agg_time_or_null(timestamptz) from public, anon, authenticated, service_role;

-- One JSON array: of a set of rows a hosted REST API returns the first thousand and says nothing.
create function public.agg_health(p_symbols text[] default null, p_now_utc timestamptz default now())
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC' as $$
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
$$;
comment on function public.agg_health(text[], timestamptz) is
  'Array of the rows of v_aggregation_health, by symbol and length of timeframe; p_symbols null: all.';
revoke execute on function public.agg_health(text[], timestamptz) from public, anon, authenticated;
grant execute on function public.agg_health(text[], timestamptz) to service_role;
