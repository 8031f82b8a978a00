-- agg_pause_task, agg_resume_task: an operator's word on a task, which nothing but another one or its own end undoes.
-- Called by: AggGateway.pause, resume; operators. Needs: agg_state, ops_report.

-- The tasks of a symbol, or the one of a timeframe, locked. Raises AG002 if there is none, AG003 if nobody signs for it.
create function public._agg_operator_tasks(p_symbol text, p_tf text, p_actor text)
returns setof text language plpgsql volatile set search_path = '' set lock_timeout = '10s' as $$
begin
  if coalesce(trim(p_actor), '') = '' then
    raise exception 'nobody is named who pauses or resumes %', concat_ws('/', coalesce(p_symbol, 'null'), p_tf)
      using errcode = 'AG003', hint = 'Pass a name in p_actor.';
  end if;
  return query select s.timeframe from public.data_agg_state s
    where s.canonical_symbol = p_symbol and (p_tf is null or s.timeframe = p_tf) order by s.timeframe for update;
  if not found then
    raise exception 'there is no task %', concat_ws('/', coalesce(p_symbol, 'null'), p_tf) using errcode = 'AG002',
      hint = coalesce('Tasks of ' || p_symbol || ': ' || (
        select string_agg(s.timeframe, ', ' order by s.timeframe) from public.data_agg_state s where s.canonical_symbol = p_symbol) || '.',
        'Add the asset to core_asset_registry_all and call sync_agg_state_from_registry.');
  end if;
end $$;
comment on function public._agg_operator_tasks(text, text, text) is 'Timeframes that an operator means, their rows locked.';
revoke execute on function public._agg_operator_tasks(text, text, text) from public, anon, authenticated, service_role;

create function public.agg_pause_task(
  p_symbol text, p_tf text, p_reason text, p_actor text, p_until_utc timestamptz default null, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  timeframes constant text[] := array(select public._agg_operator_tasks(p_symbol, p_tf, p_actor));
begin
  if p_until_utc <= now_utc then
    raise exception 'a pause of % until % is over before it begins', concat_ws('/', p_symbol, p_tf), p_until_utc
      using errcode = 'AG003', hint = 'Give a time to come, or none for a pause until agg_resume_task.';
  end if;
  update public.data_agg_state s
     set paused_at_utc = now_utc, paused_until_utc = p_until_utc, pause_reason = p_reason, paused_by = p_actor
   where s.canonical_symbol = p_symbol and s.timeframe = any (timeframes);
  perform public._ops_issue(null, 'warning', 'AGG_PAUSED', format('%s was paused by %s: %s', concat_ws('/', p_symbol, p_tf), p_actor,
    coalesce(p_reason, 'no reason given')), jsonb_build_object('symbol', p_symbol, 'timeframes', timeframes, 'until', p_until_utc));
  return jsonb_build_object('success', true, 'tasks', cardinality(timeframes));
end $$;
comment on function public.agg_pause_task(text, text, text, text, timestamptz, timestamptz) is
  'Pauses a task, or with p_tf null all of a symbol, until agg_resume_task or p_until_utc (UTC); work in progress may end. {tasks}: how many. AG002: no such task.';
revoke execute on function public.agg_pause_task(text, text, text, text, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_pause_task(text, text, text, text, timestamptz, timestamptz) to service_role;

create function public.agg_resume_task(p_symbol text, p_tf text, p_actor text, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
declare
  timeframes constant text[] := array(select public._agg_operator_tasks(p_symbol, p_tf, p_actor));
begin
  update public.data_agg_state s
     set paused_at_utc = null, paused_until_utc = null, pause_reason = null, paused_by = null,
         hard_fail_streak = 0, transient_streak = 0, stale_streak = 0, stall_streak = 0, next_run_at = null,
         status = case when s.status = 'running' then s.status else 'idle' end,
         status_before = case when s.status = 'running' then 'idle' end
   where s.canonical_symbol = p_symbol and s.timeframe = any (timeframes);
  perform public._ops_issue(null, 'pass', 'AGG_RESUMED', format('%s was resumed by %s', concat_ws('/', p_symbol, p_tf), p_actor),
    jsonb_build_object('symbol', p_symbol, 'timeframes', timeframes));
  return jsonb_build_object('success', true, 'tasks', cardinality(timeframes));
end $$;
comment on function public.agg_resume_task(text, text, text, timestamptz) is
  'Ends a pause, clears the failures in a row, and puts a disabled or hard_failed task back to work; due at once. {tasks}: how many. AG002: no such task.';
revoke execute on function public.agg_resume_task(text, text, text, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_resume_task(text, text, text, timestamptz) to service_role;
