-- agg_start, agg_start_batch, agg_bootstrap_cursor: lease tasks.
-- Called by: AggGateway.start, and agg_start by the predecessor. Needs: agg_state, task_calls. Called again: the owner
-- of a lease gets the same lease again, since the first answer may have been lost; others are refused with
-- not_idle_or_missing.

create function public._agg_start_tasks(p_tasks jsonb, p_arguments jsonb)
returns jsonb language plpgsql volatile set search_path = '' set timezone = 'UTC' as $$
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
end $$;
revoke execute on function public._agg_start_tasks(jsonb, jsonb) from public, anon, authenticated, service_role;

create function public.agg_start_batch(
  p_tasks jsonb, p_now_utc timestamptz default now(), p_owner text default null, p_lease_seconds integer default null)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
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
end $$;
comment on function public.agg_start_batch(jsonb, timestamptz, text, integer) is
  'Leases tasks [{canonical_symbol, timeframe}, ...] for p_owner, who gets the same lease when he asks again; one result per task in input order. Lease length in seconds, default 900.';
revoke execute on function public.agg_start_batch(jsonb, timestamptz, text, integer) from public, anon, authenticated;
grant execute on function public.agg_start_batch(jsonb, timestamptz, text, integer) to service_role;

create function public.agg_start(
  p_symbol text, p_tf text, p_now_utc timestamptz default now(), p_owner text default null,
  p_lease_seconds integer default null)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  result constant jsonb := public.agg_start_batch(
    jsonb_build_array(jsonb_build_object('canonical_symbol', p_symbol, 'timeframe', p_tf)),
    p_now_utc, p_owner, p_lease_seconds) -> 0;
begin
  perform public._agg_raise(result);
  -- A refusal keeps the two keys that the predecessor knows.
  return case when (result ->> 'success')::boolean then result else result - 'canonical_symbol' - 'timeframe' end;
end $$;
comment on function public.agg_start(text, text, timestamptz, text, integer) is
  'Leases one task. {success: false, error: not_idle_or_missing} if it is leased, paused, disabled or unknown.';
revoke execute on function public.agg_start(text, text, timestamptz, text, integer) from public, anon, authenticated;
grant execute on function public.agg_start(text, text, timestamptz, text, integer) to service_role;

create function public.agg_bootstrap_cursor(p_symbol text, p_to_tf text, p_now_utc timestamptz default now())
returns timestamptz language plpgsql stable security definer set search_path = '' as $$
declare
  first_window timestamptz;
begin
  select t.first_window into first_window from public.agg_tasks t
   where t.canonical_symbol = p_symbol and t.timeframe = p_to_tf;
  if first_window is null then
    raise exception 'Missing config in data_agg_state for %/%', p_symbol, p_to_tf
      using errcode = 'AG002', hint = 'Add the asset to core_asset_registry_all and call sync_agg_state_from_registry.';
  end if;
  return first_window;
end $$;
comment on function public.agg_bootstrap_cursor(text, text, timestamptz) is
  'First window of a task: the first that starts at or after agg_start_utc. AG002: no such task.';
revoke execute on function public.agg_bootstrap_cursor(text, text, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_bootstrap_cursor(text, text, timestamptz) to service_role;
