-- task calls: what the functions that take a list of tasks share: reading it, locking the tasks, refusing.
-- Called by: agg_start*, catchup_aggregation_*, agg_finish*. Needs: agg_state.
--
-- AG001 lease lost, AG002 unknown task, AG003 bad argument, AG004 paused or disabled. Never 40001: PostgREST 12 runs
-- the call again for ever.

create function public._agg_refuse(p_sqlstate text, p_message text, p_hint text)
returns jsonb language sql immutable set search_path = '' as $$
  select jsonb_build_object('error', jsonb_build_object('sqlstate', p_sqlstate, 'message', p_message, 'hint', p_hint))
$$;
revoke execute on function public._agg_refuse(text, text, text) from public, anon, authenticated, service_role;

create function public._agg_raise(p_result jsonb)
returns jsonb language plpgsql immutable set search_path = '' as $$
begin
  if jsonb_typeof(p_result -> 'error') = 'object' then
    raise exception using errcode = p_result #>> '{error,sqlstate}', message = p_result #>> '{error,message}',
                          hint = coalesce(p_result #>> '{error,hint}', '');
  end if;
  return p_result - 'canonical_symbol' - 'timeframe';
end $$;
revoke execute on function public._agg_raise(jsonb) from public, anon, authenticated, service_role;

create function public._agg_asked(p_tasks jsonb)
returns table (nth bigint, canonical_symbol text, timeframe text, task jsonb, repeated boolean)
language plpgsql immutable set search_path = '' as $$
begin
  if p_tasks is null or jsonb_typeof(p_tasks) <> 'array' then
    raise exception 'a list of tasks is needed, not %', coalesce(jsonb_typeof(p_tasks), 'null')
      using errcode = 'AG003', hint = 'Pass a JSON array of objects with canonical_symbol and timeframe.';
  end if;
  return query
  select e.ordinality, e.value ->> 'canonical_symbol', e.value ->> 'timeframe', e.value,
         row_number() over (partition by e.value ->> 'canonical_symbol', e.value ->> 'timeframe' order by e.ordinality) > 1
    from jsonb_array_elements(p_tasks) with ordinality e;
end $$;
revoke execute on function public._agg_asked(jsonb) from public, anon, authenticated, service_role;

-- Locks the rows of the tasks, in a fixed order, so that two batches cannot wait for each other. From each task to its row,
-- here and below: joined at will, a call for one task may read the state of all.
create function public._agg_lock(p_tasks jsonb)
returns void language plpgsql volatile set search_path = '' set enable_sort = on as $$
begin
  perform from (select canonical_symbol, timeframe from public._agg_asked(p_tasks) order by 1, 2) a
   cross join lateral (
      select from public.data_agg_state s
       where s.canonical_symbol = a.canonical_symbol and s.timeframe = a.timeframe for update) locked;
end $$;
revoke execute on function public._agg_lock(jsonb) from public, anon, authenticated, service_role;

-- May a caller with this token write to this task? Null: yes.
create function public._agg_refusal(
  p_symbol text, p_tf text, p_repeated boolean, p_state public.data_agg_state, p_token bigint, p_now_utc timestamptz)
returns jsonb language plpgsql immutable set search_path = '' set timezone = 'UTC' as $$
declare
  -- A running row without an expiry was started by functions older than ours.
  leased constant boolean := p_state.lease_expires_at is not null or p_state.status = 'running';
begin
  if p_symbol is null or p_tf is null then
    return public._agg_refuse('AG003', 'a task needs canonical_symbol and timeframe', 'Name both in every element.');
  elsif p_repeated then
    return public._agg_refuse('AG003', format('%s/%s is named twice in one call', p_symbol, p_tf), 'Name each task once.');
  elsif p_state.canonical_symbol is null then
    return public._agg_refuse('AG002', format('there is no task %s/%s', p_symbol, p_tf),
      'Add the asset to core_asset_registry_all and call sync_agg_state_from_registry.');
  elsif p_token is not null and not (leased and p_token = p_state.lease_token) then
    return public._agg_refuse('AG001', format('lease %s on %s/%s (next window %s) is not held', p_token, p_symbol, p_tf,
        coalesce(p_state.last_agg_bar_ts_utc::text, 'the first')),
      'The lease ended or another run took the task; discard this result.');
  elsif p_token is null and leased and p_state.lease_owner is not null then
    return public._agg_refuse('AG001', format('%s/%s is leased by %s (lease %s)', p_symbol, p_tf, p_state.lease_owner, p_state.lease_token),
      'Pass the lease token, or wait until the lease ends.');
  elsif p_token is null and (p_state.status = 'disabled' or not p_state.enabled
        or (p_state.paused_at_utc is not null and coalesce(p_state.paused_until_utc > p_now_utc, true))) then
    return public._agg_refuse('AG004', format('%s/%s is %s', p_symbol, p_tf,
        case when p_state.status = 'disabled' or not p_state.enabled then 'disabled' else 'paused' end),
      'An operator has to resume it first.');
  end if;
  return null;
end $$;
comment on function public._agg_refusal(text, text, boolean, public.data_agg_state, bigint, timestamptz) is
  'Error object if a caller with this lease token (null: none) may not write to the task, else null.';
revoke execute on function public._agg_refusal(text, text, boolean, public.data_agg_state, bigint, timestamptz)
  from public, anon, authenticated, service_role;
