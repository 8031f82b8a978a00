-- runlog: one row per run with checkpoints and events.
-- Called by: ops_runlog_*. Needs: nothing.

create table public.ops_runlog (
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

create index ops_runlog_job_trigger_started_idx on public.ops_runlog (job_name, trigger, started_at desc);

-- Not unique: a predecessor's database may hold a run id twice, and its rows stay.
create index ops_runlog_run_id_idx on public.ops_runlog (run_id);

alter table public.ops_runlog enable row level security;
revoke all on table public.ops_runlog from public, anon, authenticated, service_role;
grant select on table public.ops_runlog to service_role;
comment on table public.ops_runlog is 'One row per run; run_id is Dagster''s run id. status: running, success or failed.';
