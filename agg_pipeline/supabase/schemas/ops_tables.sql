-- ops tables: how the worker is and what went wrong, in the tables that dashboards of the predecessor's newer worker read.
-- Called by: ops_report_run; rows may be inserted over REST, too. Needs: nothing.

create type public.worker_status_enum as enum ('pass', 'warning', 'critical', 'error');

create table public.quality_workerhealth (
  id bigserial primary key,
  env_name text not null,
  worker_name text not null,
  run_id uuid not null,
  run_ts timestamptz not null default now(),
  scheduled_for_ts timestamptz,
  status public.worker_status_enum not null,
  duration_ms integer,
  last_success_ts timestamptz,
  last_error_ts timestamptz,
  error_count integer default 0,
  error_samples jsonb,
  metrics jsonb,
  created_at timestamptz not null default now(),
  constraint uq_quality_workerhealth_run unique (env_name, worker_name, run_id)
);

create table public.ops_issues (
  id bigserial primary key,
  env_name text,
  worker_name text,
  severity public.worker_status_enum not null,
  event_ts timestamptz not null default now(),
  code text,
  message text,
  context jsonb,
  created_at timestamptz not null default now()
);

alter table public.quality_workerhealth enable row level security;
alter table public.ops_issues enable row level security;
revoke all on table public.quality_workerhealth, public.ops_issues from public, anon, authenticated, service_role;
grant select, insert on table public.quality_workerhealth, public.ops_issues to service_role;
grant usage on sequence public.quality_workerhealth_id_seq, public.ops_issues_id_seq to service_role;
