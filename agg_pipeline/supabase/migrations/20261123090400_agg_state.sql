-- agg state: one row per task (symbol, timeframe): cursor, schedule, lease, failures, pause.
-- Called by: every agg_ function. Needs: registry. Repeat: yes; a predecessor's rows and settings stay.
-- Undo: none; operators own rows here.
set local lock_timeout = '10s';

create table if not exists public.data_agg_state (
  canonical_symbol text not null,
  timeframe text not null,
  source_timeframe text,
  run_interval_minutes integer,
  aggregation_delay_seconds integer,
  last_agg_bar_ts_utc timestamptz,
  last_attempted_at_utc timestamptz,
  running_started_at_utc timestamptz,
  last_successful_at_utc timestamptz,
  next_run_at timestamptz,
  status text not null default 'idle',
  hard_fail_streak integer not null default 0,
  last_error text,
  total_runs bigint not null default 0,
  total_bars_created bigint not null default 0,
  total_bars_quality_poor bigint not null default 0,
  is_mandatory boolean not null default false,
  agg_start_utc timestamptz not null default '2025-07-01 00:00:00+00',
  enabled boolean not null default true,
  task_priority integer not null default 100,
  updated_at timestamptz not null default now(),
  primary key (canonical_symbol, timeframe)
);
alter table public.data_agg_state
  add column if not exists is_mandatory boolean not null default false,
  add column if not exists agg_start_utc timestamptz not null default '2025-07-01 00:00:00+00',
  add column if not exists enabled boolean not null default true,
  add column if not exists task_priority integer not null default 100,
  add column if not exists late_deadline_seconds integer not null default 900,
  add column if not exists lease_token bigint not null default 0,
  add column if not exists lease_owner text,
  add column if not exists lease_seconds integer,
  add column if not exists lease_expires_at timestamptz,
  add column if not exists finished_token bigint,
  add column if not exists status_before text,
  add column if not exists transient_streak integer not null default 0,
  add column if not exists stale_streak integer not null default 0,
  add column if not exists success_cursor_utc timestamptz,
  add column if not exists stall_streak integer not null default 0,
  add column if not exists paused_at_utc timestamptz,
  add column if not exists paused_until_utc timestamptz,
  add column if not exists pause_reason text,
  add column if not exists paused_by text;

-- A tick writes each row three times and changes no indexed column: with room on the page these updates are HOT. That is
-- why lease_owner has no index; whoever frees an owner's leases reads the table.
alter table public.data_agg_state set (fillfactor = 50);

alter table public.data_agg_state enable row level security;
revoke all on table public.data_agg_state from public, anon, authenticated, service_role;
grant select on table public.data_agg_state to service_role;

comment on table public.data_agg_state is 'One row per aggregation task: cursor, lease, streaks, pause.';
comment on column public.data_agg_state.last_agg_bar_ts_utc is 'The cursor: start of the NEXT window to process, UTC.';
comment on column public.data_agg_state.aggregation_delay_seconds is
  'An incomplete window that newer bars have passed by is built this long after its end.';
comment on column public.data_agg_state.late_deadline_seconds is
  'An incomplete window that nothing has followed is built this long after its end.';
comment on column public.data_agg_state.lease_token is 'Grows with each lease; proves who may write.';
comment on column public.data_agg_state.finished_token is
  'Token of the lease that a finish closed last: who repeats that finish, having missed the answer, is told so.';
comment on column public.data_agg_state.success_cursor_utc is 'The cursor at the end of the last success.';
comment on column public.data_agg_state.stall_streak is
  'Successes in a row that left the cursor where it was, though the source had gone on and the window was due; 2 are a stall.';
comment on column public.data_agg_state.next_run_at is
  'After a success the end of the next window, on the grid of the timeframe; after a failure the end of the back-off.';

-- Keep updated_at true without trusting writers to set it.
create or replace function public._set_updated_at() returns trigger language plpgsql set search_path = '' as $$
begin
  new.updated_at := pg_catalog.now();
  return new;
end $$;
revoke execute on function public._set_updated_at() from public, anon, authenticated, service_role;
create or replace trigger trg_agg_state_updated_at before update on public.data_agg_state
  for each row execute function public._set_updated_at();
create or replace trigger trg_derived_updated_at before update on public.derived_data_bars
  for each row execute function public._set_updated_at();
