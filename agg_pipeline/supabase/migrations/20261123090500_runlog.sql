-- runlog: one row per run with checkpoints and events, and the health tables that dashboards read.
-- Called by: ops_runlog_*; health rows are inserted over REST. Needs: nothing. Repeat: yes; rows stay.
-- Undo: none; history is the user's.
set local lock_timeout = '10s';

create table if not exists public.ops_runlog (
  id bigserial primary key,
  run_id uuid not null,
  job_name text not null,
  trigger text not null,
  env_name text,
  started_at timestamptz not null default now(),
  finished_at timestamptz,
  status text not null default 'running',
  checkpoints jsonb not null default '{}',
  events jsonb not null default '[]',
  stats jsonb not null default '{}',
  created_at timestamptz not null default now()
);
create index if not exists ops_runlog_job_trigger_started_idx on public.ops_runlog (job_name, trigger, started_at desc);
-- Not unique: a predecessor's database may hold a run id twice, and its rows stay.
create index if not exists ops_runlog_run_id_idx on public.ops_runlog (run_id);
alter table public.ops_runlog enable row level security;
revoke all on table public.ops_runlog from public, anon, authenticated, service_role;
grant select on table public.ops_runlog to service_role;
comment on table public.ops_runlog is 'One row per run; run_id is Dagster''s run id. status: running, success or failed.';

do $$
begin
  if to_regtype('public.worker_status_enum') is null then
    create type public.worker_status_enum as enum ('pass', 'warning', 'critical', 'error');
  end if;
end $$;
create table if not exists public.quality_workerhealth (
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
create table if not exists public.ops_issues (
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
do $$
declare
  owned text;
begin
  -- The validator's shape of these tables has uuid ids and no sequence.
  for owned in select pg_get_serial_sequence(t, 'id')
      from unnest(array['public.quality_workerhealth', 'public.ops_issues']) t
      where pg_get_serial_sequence(t, 'id') is not null loop
    execute format('grant usage on sequence %s to service_role', owned);
  end loop;
end $$;
