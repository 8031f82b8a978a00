-- ops_runlog_start, _checkpoint, _finish, _prune, _open, _recent, _expire: the diary of runs.
-- Called by: AggGateway, the predecessor. Needs: runlog.

create function public.ops_runlog_start(p_run_id uuid, p_job_name text, p_trigger text, p_env_name text)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
begin
  -- run_id cannot be unique (old databases hold duplicates), so a lock makes "insert if absent" safe.
  perform pg_advisory_xact_lock(hashtextextended('ops_runlog ' || p_run_id::text, 0));
  insert into public.ops_runlog (run_id, job_name, trigger, env_name)
  select p_run_id, p_job_name, p_trigger, p_env_name
   where not exists (select from public.ops_runlog where run_id = p_run_id);
  return jsonb_build_object('success', true);
end $$;
comment on function public.ops_runlog_start(uuid, text, text, text) is
  'Opens the row of a run; a second call with the same id changes nothing.';
revoke execute on function public.ops_runlog_start(uuid, text, text, text) from public, anon, authenticated;
grant execute on function public.ops_runlog_start(uuid, text, text, text) to service_role;

-- What is noted again word for word was noted before: the caller missed the answer.
create function public.ops_runlog_checkpoints(p_run_id uuid, p_points jsonb)
returns jsonb language sql volatile security definer set search_path = '' as $$
  update public.ops_runlog r
     set checkpoints = r.checkpoints || coalesce((
           select jsonb_object_agg(point ->> 'checkpoint', true) from jsonb_array_elements(p_points) point), '{}'),
         events = r.events || coalesce((
           select jsonb_agg(jsonb_build_object('ts', now(), 'checkpoint', point ->> 'checkpoint',
                                               'details', coalesce(point -> 'details', '{}')) order by nth)
             from jsonb_array_elements(p_points) with ordinality points (point, nth)
            where not exists (
              select from jsonb_array_elements(r.events) noted
               where noted ->> 'checkpoint' = point ->> 'checkpoint' and noted -> 'details' = coalesce(point -> 'details', '{}'))), '[]')
   where r.run_id = p_run_id;
  select jsonb_build_object('success', true)
$$;
comment on function public.ops_runlog_checkpoints(uuid, jsonb) is
  'Notes several points [{checkpoint, details}, ...] at once: a run of many tasks notes each of their outcomes.';
revoke execute on function public.ops_runlog_checkpoints(uuid, jsonb) from public, anon, authenticated;
grant execute on function public.ops_runlog_checkpoints(uuid, jsonb) to service_role;

create function public.ops_runlog_checkpoint(p_run_id uuid, p_checkpoint text, p_details jsonb default '{}')
returns jsonb language sql volatile security definer set search_path = '' as $$
  select public.ops_runlog_checkpoints(p_run_id, jsonb_build_array(jsonb_build_object(
    'checkpoint', p_checkpoint, 'details', coalesce(p_details, '{}'))))
$$;
comment on function public.ops_runlog_checkpoint(uuid, text, jsonb) is 'Notes that a run reached a point, with details.';
revoke execute on function public.ops_runlog_checkpoint(uuid, text, jsonb) from public, anon, authenticated;
grant execute on function public.ops_runlog_checkpoint(uuid, text, jsonb) to service_role;

-- A run that has ended holds no lease: whatever it left is free at once, and leaves no mark on the task.
create function public.ops_runlog_finish(p_run_id uuid, p_status text, p_stats jsonb default '{}')
returns jsonb language sql volatile security definer set search_path = '' as $$
  update public.ops_runlog set status = p_status, stats = coalesce(p_stats, '{}'), finished_at = coalesce(finished_at, now())
   where run_id = p_run_id;
  select public.agg_release(p_run_id::text);
  select jsonb_build_object('success', true)
$$;
comment on function public.ops_runlog_finish(uuid, text, jsonb) is
  'Closes the row of a run with status success or failed, and frees every lease that the run still holds.';
revoke execute on function public.ops_runlog_finish(uuid, text, jsonb) from public, anon, authenticated;
grant execute on function public.ops_runlog_finish(uuid, text, jsonb) to service_role;

-- Runs that have not said how they ended or that hold a lease, and for how long they have been silent: each checkpoint is a
-- sign of life, and so is each catch-up, which prolongs a lease. For whoever knows what became of them (Dagster). A run that
-- is closed holds a lease if its call for it arrived after all.
create function public.ops_runlog_open(p_env_name text)
returns jsonb language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
           'run_id', r.run_id, 'is_closed', r.status <> 'running',
           'silent_seconds', extract(epoch from now() - greatest(r.started_at, (r.events #>> '{-1,ts}')::timestamptz, lease.seen_utc)))
           order by r.id), '[]')
    from public.ops_runlog r
    left join lateral (
      select max(s.lease_expires_at - make_interval(secs => s.lease_seconds)) as seen_utc
        from public.data_agg_state s where s.lease_owner = r.run_id::text) lease on true
   where upper(r.env_name) = upper(p_env_name)
     and (r.status = 'running' or r.run_id::text in (select s.lease_owner from public.data_agg_state s where s.lease_owner is not null))
$$;
comment on function public.ops_runlog_open(text) is
  'Array [{run_id, is_closed, silent_seconds}, ...]: the runs of an environment that are not closed or hold a lease, and how long ago each gave a sign of life.';
revoke execute on function public.ops_runlog_open(text) from public, anon, authenticated;
grant execute on function public.ops_runlog_open(text) to service_role;

create function public.ops_runlog_recent(p_env_name text default null, p_limit integer default 20)
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(to_jsonb(r) - 'id' - 'checkpoints' order by r.id), '[]')
    from (select * from public.ops_runlog l where p_env_name is null or upper(l.env_name) = upper(p_env_name)
           order by l.id desc limit p_limit) r
$$;
comment on function public.ops_runlog_recent(text, integer) is
  'Array of the newest p_limit runs of an environment (null: of all) with their events, oldest first.';
revoke execute on function public.ops_runlog_recent(text, integer) from public, anon, authenticated;
grant execute on function public.ops_runlog_recent(text, integer) to service_role;

create function public.ops_runlog_prune(p_job_name text, p_trigger text, p_keep integer default 10)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  deleted integer;
begin
  delete from public.ops_runlog r using (
    select id, row_number() over (partition by env_name order by started_at desc, id desc) as age
      from public.ops_runlog where job_name = p_job_name and trigger = p_trigger) old
   where r.id = old.id and old.age > greatest(coalesce(p_keep, 10), 0);
  get diagnostics deleted = row_count;
  return jsonb_build_object('success', true, 'deleted', deleted);
end $$;
comment on function public.ops_runlog_prune(text, text, integer) is
  'Keeps the newest p_keep rows of a job and trigger in each environment.';
revoke execute on function public.ops_runlog_prune(text, text, integer) from public, anon, authenticated;
grant execute on function public.ops_runlog_prune(text, text, integer) to service_role;

create function public.ops_runlog_expire(
  p_job_name text, p_env_name text, p_keep_days integer, p_limit integer default 10000, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  abandoned integer;
  deleted integer;
begin
  if coalesce(p_keep_days, 0) < 1 then
    raise exception 'p_keep_days is %, but at least one day of runs is kept', p_keep_days using errcode = 'AG003',
      hint = 'Pass the age in days from which on rows go.';
  end if;
  -- No run lasts a day: its process died where nobody saw it.
  update public.ops_runlog set status = 'failed', finished_at = now_utc, stats = stats || '{"error": "the run never said how it ended"}'
   where job_name = p_job_name and upper(env_name) = upper(p_env_name) and status = 'running'
     and started_at < now_utc - interval '1 day';
  get diagnostics abandoned = row_count;
  delete from public.ops_runlog r using (
    select id from public.ops_runlog
     where job_name = p_job_name and upper(env_name) = upper(p_env_name) and status <> 'running'
       and started_at < now_utc - make_interval(days => p_keep_days)
     order by started_at limit p_limit) old
   where r.id = old.id;
  get diagnostics deleted = row_count;
  delete from public.ops_heartbeats where env_name = upper(p_env_name) and beat_at < now_utc - interval '1 day';
  return jsonb_build_object('success', true, 'deleted', deleted, 'abandoned', abandoned);
end $$;
comment on function public.ops_runlog_expire(text, text, integer, integer, timestamptz) is
  'Deletes closed rows of a job and environment older than p_keep_days, oldest first, at most p_limit; closes as failed what has been open for a day.';
revoke execute on function public.ops_runlog_expire(text, text, integer, integer, timestamptz) from public, anon, authenticated;
grant execute on function public.ops_runlog_expire(text, text, integer, integer, timestamptz) to service_role;
