-- agg_finish, agg_finish_batch, agg_release: give leases back with what happened.
-- Called by: AggGateway.finish, release; agg_finish by the predecessor. Needs: agg_state, task_calls. Called again:
-- refused with AG001, since the lease has ended; "repeated" in the refusal tells that this very lease was finished.

-- Seconds until the next try after n failures in a row: doubling from a minute to six hours, spread by a fifth.
create function public._agg_backoff(p_failures integer)
returns interval language sql volatile set search_path = '' as $$
  select make_interval(secs => least(60 * 2 ^ least(greatest(p_failures, 1) - 1, 20), 21600) * (0.8 + 0.4 * random()))
$$;
revoke execute on function public._agg_backoff(integer) from public, anon, authenticated, service_role;

-- Has the source gone on, and is the window at the cursor due? Then a catch-up has to move the cursor, whatever is missing.
create function public._agg_left_behind(p_symbol text, p_tf text, p_now_utc timestamptz)
returns boolean language sql stable set search_path = '' as $$
  select exists (
    select from public.agg_tasks t
     cross join lateral (
        select from public.agg_source_bars b
         where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol and b.timeframe = t.source_timeframe
           and b.ts_utc >= t.cursor_utc + t.length and b.ts_utc <= p_now_utc and b.reject_reason is null
         order by b.ts_utc limit 1) beyond
     where t.canonical_symbol = p_symbol and t.timeframe = p_tf and t.cursor_utc + t.length + t.delay <= p_now_utc)
$$;
comment on function public._agg_left_behind(text, text, timestamptz) is
  'True if the window at a task''s cursor is due and valid source bars lie beyond it.';
revoke execute on function public._agg_left_behind(text, text, timestamptz) from public, anon, authenticated, service_role;

create function public._agg_finish_success(p_symbol text, p_tf text, p_new_cursor_utc timestamptz, p_stats jsonb, p_now_utc timestamptz)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  task public.agg_tasks;
  skipped_to timestamptz;
begin
  if p_new_cursor_utc is not null then
    -- A cursor from outside may only go forward, and no further than the data; what it skips is noted, so that it is built.
    select * into task from public.agg_tasks where canonical_symbol = p_symbol and timeframe = p_tf;
    select least(date_bin(task.length, p_new_cursor_utc, task.origin_utc),
                 date_bin(task.length, b.ts_utc, task.origin_utc) + task.length) into skipped_to
      from public.agg_source_bars b
     where p_new_cursor_utc > task.cursor_utc and b.is_base = task.source_is_base and b.canonical_symbol = p_symbol
       and b.timeframe = task.source_timeframe and b.ts_utc >= task.cursor_utc and b.reject_reason is null
     order by b.ts_utc desc limit 1;
    if skipped_to > task.cursor_utc then
      insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
      values (p_symbol, p_tf, task.cursor_utc, skipped_to);
    end if;
  end if;
  update public.data_agg_state s
     set status = case when s.status = 'running' then 'idle' else s.status end, status_before = null,
         running_started_at_utc = null, lease_owner = null, lease_seconds = null, lease_expires_at = null,
         finished_token = s.lease_token,
         last_agg_bar_ts_utc = greatest(s.last_agg_bar_ts_utc, skipped_to),
         last_successful_at_utc = p_now_utc, last_error = null,
         hard_fail_streak = 0, transient_streak = 0, stale_streak = 0,
         success_cursor_utc = greatest(s.last_agg_bar_ts_utc, skipped_to),
         -- Apart from what decides about windows, for that may be what is wrong.
         stall_streak = case when greatest(s.last_agg_bar_ts_utc, skipped_to) is not distinct from s.success_cursor_utc
                              and public._agg_left_behind(p_symbol, p_tf, p_now_utc) then s.stall_streak + 1 else 0 end,
         -- The end of the next window, not "now + interval", which would drift off the grid and miss ticks.
         next_run_at = (select greatest(s.last_agg_bar_ts_utc, skipped_to) + t.length
                          from public.agg_timeframes t where t.timeframe = s.timeframe),
         total_runs = s.total_runs + 1,
         total_bars_created = s.total_bars_created + coalesce((p_stats ->> 'bars_created')::bigint, 0),
         total_bars_quality_poor = s.total_bars_quality_poor + coalesce((p_stats ->> 'bars_quality_poor')::bigint, 0)
   where s.canonical_symbol = p_symbol and s.timeframe = p_tf;
  return jsonb_build_object('success', true);
end $$;
revoke execute on function public._agg_finish_success(text, text, timestamptz, jsonb, timestamptz)
  from public, anon, authenticated, service_role;

create function public._agg_finish_failure(
  p_symbol text, p_tf text, p_fail_kind text, p_error text, p_now_utc timestamptz, p_hard_limit integer)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  hard constant boolean := p_fail_kind is distinct from 'transient';
  state public.data_agg_state;
begin
  update public.data_agg_state s
     set hard_fail_streak = s.hard_fail_streak + hard::integer,
         transient_streak = s.transient_streak + (not hard)::integer,
         status = case
           when s.status <> 'running' then s.status
           when hard and s.hard_fail_streak + 1 >= p_hard_limit then case when s.is_mandatory then 'hard_failed' else 'disabled' end
           else coalesce(s.status_before, 'idle') end,
         status_before = null, running_started_at_utc = null, lease_owner = null, lease_seconds = null, lease_expires_at = null,
         finished_token = s.lease_token,
         last_error = left(coalesce(p_error, 'failed without a message'), 2000),
         next_run_at = p_now_utc + public._agg_backoff(s.hard_fail_streak + s.transient_streak + 1),
         total_runs = s.total_runs + 1
   where s.canonical_symbol = p_symbol and s.timeframe = p_tf
  returning * into state;
  if not hard then
    return jsonb_build_object('success', true, 'failed', true, 'kind', 'transient');
  end if;
  return jsonb_build_object('success', true, 'failed', true, 'kind', 'hard', 'status', state.status,
                            'hard_fail_streak', state.hard_fail_streak, 'is_mandatory', state.is_mandatory);
end $$;
revoke execute on function public._agg_finish_failure(text, text, text, text, timestamptz, integer)
  from public, anon, authenticated, service_role;

create function public._agg_finish_tasks(p_results jsonb, p_arguments jsonb)
returns jsonb language plpgsql volatile set search_path = '' set timezone = 'UTC' as $$
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
end $$;
revoke execute on function public._agg_finish_tasks(jsonb, jsonb) from public, anon, authenticated, service_role;

create function public.agg_finish_batch(
  p_results jsonb, p_now_utc timestamptz default now(), p_auto_disable_hard_fail_threshold integer default 3)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' set lock_timeout = '4s' as $$
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
end $$;
comment on function public.agg_finish_batch(jsonb, timestamptz, integer) is
  'Closes leases: [{canonical_symbol, timeframe, lease_token, success, new_cursor_utc, stats, fail_kind, error}, ...]; one result per task in input order. AG001: lease lost; with "repeated": this lease was finished already.';
revoke execute on function public.agg_finish_batch(jsonb, timestamptz, integer) from public, anon, authenticated;
grant execute on function public.agg_finish_batch(jsonb, timestamptz, integer) to service_role;

create function public.agg_finish(
  p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null, p_stats jsonb default null,
  p_fail_kind text default null, p_error text default null, p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold integer default 3, p_lease_token bigint default null)
returns jsonb language sql volatile security definer set search_path = '' as $$
  select public._agg_raise(public.agg_finish_batch(jsonb_build_array(jsonb_build_object(
    'canonical_symbol', p_symbol, 'timeframe', p_tf, 'lease_token', p_lease_token, 'success', p_success,
    'new_cursor_utc', p_new_cursor_utc, 'stats', p_stats, 'fail_kind', p_fail_kind, 'error', p_error)),
    p_now_utc, p_auto_disable_hard_fail_threshold) -> 0)
$$;
comment on function public.agg_finish(text, text, boolean, timestamptz, jsonb, text, text, timestamptz, integer, bigint) is
  'Closes one lease with success or failure (p_fail_kind transient, else hard). A cursor only goes forward. AG001: lease lost, AG002: no such task.';
revoke execute on function public.agg_finish(text, text, boolean, timestamptz, jsonb, text, text, timestamptz, integer, bigint)
  from public, anon, authenticated;
grant execute on function public.agg_finish(text, text, boolean, timestamptz, jsonb, text, text, timestamptz, integer, bigint)
  to service_role;

create function public.agg_release(p_owner text, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  released integer;
begin
  update public.data_agg_state s
     set status = case when s.status = 'running' then coalesce(s.status_before, 'idle') else s.status end, status_before = null,
         running_started_at_utc = null, lease_owner = null, lease_seconds = null, lease_expires_at = null
   where s.lease_owner = p_owner;
  get diagnostics released = row_count;
  return jsonb_build_object('released', released);
end $$;
comment on function public.agg_release(text, timestamptz) is
  'Frees every lease of an owner (a run that failed or was canceled); {released: how many}.';
revoke execute on function public.agg_release(text, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_release(text, timestamptz) to service_role;
