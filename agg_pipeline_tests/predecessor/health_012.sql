-- Its newer worker's tables.
create type public.worker_status_enum as enum ('pass', 'warning', 'critical', 'error');
create table public.quality_workerhealth (
  id bigserial primary key, env_name text not null, worker_name text not null, run_id uuid not null,
  run_ts timestamptz not null default now(), scheduled_for_ts timestamptz, status public.worker_status_enum not null,
  duration_ms int, last_success_ts timestamptz, last_error_ts timestamptz, error_count int default 0, error_samples jsonb,
  metrics jsonb, created_at timestamptz not null default now(),
  constraint uq_quality_workerhealth_run unique (env_name, worker_name, run_id));
create table public.ops_issues (
  id bigserial primary key, env_name text, worker_name text, severity public.worker_status_enum not null,
  event_ts timestamptz not null default now(), code text, message text, context jsonb, created_at timestamptz not null default now());
insert into public.quality_workerhealth (env_name, worker_name, run_id, status)
values ('DEV', 'aggregation', '00000000-0000-0000-0000-000000000007', 'pass');
