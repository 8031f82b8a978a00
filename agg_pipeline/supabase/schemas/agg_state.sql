-- agg state: one row per task (symbol, timeframe): cursor, schedule, lease, failures, pause.
-- Called by: every agg_ function. Needs: asset_registry.

create table public.data_agg_state (
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
  late_deadline_seconds integer not null default 900,
  lease_token bigint not null default 0,
  lease_owner text,
  lease_seconds integer,
  lease_expires_at timestamptz,
  finished_token bigint,
  status_before text,
  transient_streak integer not null default 0,
  stale_streak integer not null default 0,
  success_cursor_utc timestamptz,
  stall_streak integer not null default 0,
  paused_at_utc timestamptz,
  paused_until_utc timestamptz,
  pause_reason text,
  paused_by text,
  updated_at timestamptz not null default now(),
  primary key (canonical_symbol, timeframe)
);

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
