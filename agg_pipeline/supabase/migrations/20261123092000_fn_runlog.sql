-- ops_runlog_start, _checkpoint, _finish, _prune: the diary of runs.
-- Called by: AggGateway, the predecessor. Needs: runlog. Repeat: yes. Undo: drop function public.ops_runlog_start, ...;
create or replace function public.ops_runlog_start(p_run_id uuid, p_job_name text, p_trigger text, p_env_name text)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
begin
  -- run_id cannot be unique (old databases hold duplicates), so a lock makes "insert if absent" safe.
  perform pg_advisory_xact_lock(hashtextextended('ops_runlog ' || p_run_id::text, 0));
  insert into public.ops_runlog (run_id, job_name, trigger, env_name)
  select p_run_id, p_job_name, p_trigger, p_env_name
   where not exists (select from public.ops_runlog where run_id = p_run_id);
  return jsonb_build_object('success', true);
end $$;

create or replace function public.ops_runlog_checkpoint(p_run_id uuid, p_checkpoint text, p_details jsonb default '{}')
returns jsonb language sql volatile security definer set search_path = '' as $$
  update public.ops_runlog
     set checkpoints = checkpoints || jsonb_build_object(p_checkpoint, true),
         events = events || jsonb_build_array(jsonb_build_object(
           'ts', now(), 'checkpoint', p_checkpoint, 'details', coalesce(p_details, '{}')))
   where run_id = p_run_id;
  select jsonb_build_object('success', true)
$$;

create or replace function public.ops_runlog_finish(p_run_id uuid, p_status text, p_stats jsonb default '{}')
returns jsonb language sql volatile security definer set search_path = '' as $$
  update public.ops_runlog set status = p_status, stats = coalesce(p_stats, '{}'), finished_at = now() where run_id = p_run_id;
  select jsonb_build_object('success', true)
$$;

create or replace function public.ops_runlog_prune(p_job_name text, p_trigger text, p_keep integer default 10)
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

revoke execute on function public.ops_runlog_start(uuid, text, text, text), public.ops_runlog_checkpoint(uuid, text, jsonb),
  public.ops_runlog_finish(uuid, text, jsonb), public.ops_runlog_prune(text, text, integer) from public, anon, authenticated;
grant execute on function public.ops_runlog_start(uuid, text, text, text), public.ops_runlog_checkpoint(uuid, text, jsonb),
  public.ops_runlog_finish(uuid, text, jsonb), public.ops_runlog_prune(text, text, integer) to service_role;
comment on function public.ops_runlog_start(uuid, text, text, text) is 'Opens the row of a run; a second call with the same id changes nothing.';
comment on function public.ops_runlog_checkpoint(uuid, text, jsonb) is 'Notes that a run reached a point, with details.';
comment on function public.ops_runlog_finish(uuid, text, jsonb) is 'Closes the row of a run with status success or failed.';
comment on function public.ops_runlog_prune(text, text, integer) is 'Keeps the newest p_keep rows of a job and trigger in each environment.';

create or replace function public.ops_runlog_checkpoints(p_run_id uuid, p_points jsonb)
returns jsonb language sql volatile security definer set search_path = '' as $$
  update public.ops_runlog
     set checkpoints = checkpoints || coalesce((
           select jsonb_object_agg(point ->> 'checkpoint', true) from jsonb_array_elements(p_points) point), '{}'),
         events = events || coalesce((
           select jsonb_agg(jsonb_build_object('ts', now(), 'checkpoint', point ->> 'checkpoint',
                                               'details', coalesce(point -> 'details', '{}')) order by nth)
             from jsonb_array_elements(p_points) with ordinality points (point, nth)), '[]')
   where run_id = p_run_id;
  select jsonb_build_object('success', true)
$$;
revoke execute on function public.ops_runlog_checkpoints(uuid, jsonb) from public, anon, authenticated;
grant execute on function public.ops_runlog_checkpoints(uuid, jsonb) to service_role;
comment on function public.ops_runlog_checkpoints(uuid, jsonb) is
  'Notes several points [{checkpoint, details}, ...] at once: a run of many tasks notes each of their outcomes.';
