-- ops_report_run: how a run went, in the tables that dashboards of the predecessor's newer worker read.
-- Called by: AggGateway.report_run. Needs: runlog.
--
-- A database may hold the validator's tables of the same names instead (uuid ids, a column "category"). What does not
-- fit there is left out: nobody's bars may wait for a dashboard.

create function public._ops_issue(p_env_name text, p_severity text, p_code text, p_message text, p_context jsonb)
returns boolean language plpgsql volatile set search_path = '' as $$
begin
  insert into public.ops_issues (env_name, worker_name, severity, code, message, context)
  select p_env_name, 'aggregation', p_severity::public.worker_status_enum, p_code, p_message, p_context
   where p_context -> 'run_id' is null
      or not exists (select from public.ops_issues where code = p_code and context = p_context);
  return true;
exception when undefined_table or undefined_column or not_null_violation or datatype_mismatch or invalid_text_representation
            or check_violation then
  return false;
end $$;
comment on function public._ops_issue(text, text, text, text, jsonb) is
  'One row of ops_issues, once per code and context of a run; false if the table is not of this shape.';
revoke execute on function public._ops_issue(text, text, text, text, jsonb) from public, anon, authenticated, service_role;

create function public.ops_report_run(
  p_run_id uuid, p_env_name text, p_status text, p_scheduled_for_utc timestamptz default null,
  p_errors jsonb default '[]', p_metrics jsonb default '{}', p_issues jsonb default '[]')
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  reported boolean := true;
begin
  if p_status is null or p_status not in ('pass', 'warning', 'critical', 'error') then
    raise exception 'p_status is %, which is none of pass, warning, critical, error', coalesce(p_status, 'null')
      using errcode = 'AG003', hint = 'pass: all well; warning: tasks failed; critical: nothing was selected; error: the run broke.';
  end if;
  begin
    insert into public.quality_workerhealth (env_name, worker_name, run_id, scheduled_for_ts, status, duration_ms,
                                             last_success_ts, last_error_ts, error_count, error_samples, metrics)
    select p_env_name, 'aggregation', p_run_id, p_scheduled_for_utc, p_status::public.worker_status_enum, (
             select (extract(epoch from coalesce(r.finished_at, now()) - r.started_at) * 1000)::integer
               from public.ops_runlog r where r.run_id = p_run_id order by r.id limit 1),
           case when p_status = 'pass' then now() else latest.last_success_ts end,
           case when p_status = 'pass' then latest.last_error_ts else now() end,
           jsonb_array_length(p_errors), nullif(jsonb_path_query_array(p_errors, '$[0 to 4]'), '[]'), p_metrics
      from (select) one
      left join lateral (
        select h.last_success_ts, h.last_error_ts from public.quality_workerhealth h
         where h.env_name = p_env_name and h.worker_name = 'aggregation' order by h.id desc limit 1) latest on true
    on conflict (env_name, worker_name, run_id) do nothing;
  exception when undefined_table or undefined_column or not_null_violation or datatype_mismatch or invalid_text_representation
              or invalid_column_reference or check_violation then
    reported := false;
  end;
  select coalesce(bool_and(public._ops_issue(p_env_name, issue ->> 'severity', issue ->> 'code', issue ->> 'message', issue -> 'context')), true)
         and reported into reported from jsonb_array_elements(p_issues) issue;
  return jsonb_build_object('success', true, 'reported', reported);
end $$;
comment on function public.ops_report_run(uuid, text, text, timestamptz, jsonb, jsonb, jsonb) is
  'One row of quality_workerhealth (status pass, warning, critical or error) and one of ops_issues per issue {severity, code, message, context}; reported: false if these tables have another shape.';
revoke execute on function public.ops_report_run(uuid, text, text, timestamptz, jsonb, jsonb, jsonb) from public, anon, authenticated;
grant execute on function public.ops_report_run(uuid, text, text, timestamptz, jsonb, jsonb, jsonb) to service_role;
