-- recovery: leases that nobody closed in time.
-- Called by: agg_get_due_tasks and agg_due_tasks, at each tick. Needs: isolation, _agg_backoff, _ops_issue.

create function public._agg_is_stale(p_state public.data_agg_state, p_now_utc timestamptz, p_running_stale_seconds integer)
returns boolean language sql immutable set search_path = '' as $$
  select p_state.status = 'running'
     and p_now_utc > coalesce(p_state.lease_expires_at,
                              p_state.running_started_at_utc + make_interval(secs => coalesce(p_running_stale_seconds, 900)), '-infinity')
$$;
comment on function public._agg_is_stale(public.data_agg_state, timestamptz, integer) is
  'True if the lease of a task has ended, or a worker without leases has had it for longer than p_running_stale_seconds.';
revoke execute on function public._agg_is_stale(public.data_agg_state, timestamptz, integer) from public, anon, authenticated, service_role;

-- The tasks are free again, and each failure counts as a transient one.
create function public._agg_recover_tasks(p_tasks jsonb, p_arguments jsonb)
returns jsonb language plpgsql volatile set search_path = '' as $$
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
end $$;
revoke execute on function public._agg_recover_tasks(jsonb, jsonb) from public, anon, authenticated, service_role;

-- Returns the tasks that could not be freed.
create function public._agg_recover_stale(p_now_utc timestamptz, p_running_stale_seconds integer)
returns jsonb language plpgsql volatile set search_path = '' as $$
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
end $$;
revoke execute on function public._agg_recover_stale(timestamptz, integer) from public, anon, authenticated, service_role;
