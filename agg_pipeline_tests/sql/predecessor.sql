-- A database as the predecessor left it: its tables and rows, two agg_finish, rights that its browser roles should not have.
create table public.core_asset_registry_all (
  canonical_symbol text primary key, provider_ticker text, asset_class text, source text, endpoint_key text, query_params jsonb,
  active boolean, test_active boolean, notes text, ingest_class text, base_timeframe text, is_sparse boolean,
  is_contract boolean, contract_root text, contract_expiry_utc timestamptz, expected_update_seconds integer,
  calc_15m boolean default false, calc_4h boolean default false, calc_1d boolean default false,
  created_at timestamptz default now(), updated_at timestamptz default now(), own_column text default 'theirs');
create table public.data_bars (
  id bigserial primary key, canonical_symbol text not null references public.core_asset_registry_all, provider_ticker text,
  timeframe text not null constraint bars_timeframe_check check (timeframe in ('1m', '5m', '1h', '2h', '4h')),
  ts_utc timestamptz not null, open double precision, high double precision, low double precision, close double precision,
  vol double precision, vwap double precision, trade_count integer, is_partial boolean not null, source text not null,
  ingested_at timestamptz not null, raw jsonb not null,
  constraint data_bars_symbol_tf_ts_unique unique (canonical_symbol, timeframe, ts_utc));
create table public.derived_data_bars (
  id bigserial primary key, canonical_symbol text not null, timeframe text not null, ts_utc timestamptz not null,
  open double precision not null, high double precision not null, low double precision not null, close double precision not null,
  vol double precision, vwap double precision, trade_count integer, is_partial boolean not null default false,
  source text not null default 'agg', ingested_at timestamptz not null default now(), source_timeframe text,
  source_candles integer, expected_candles integer, quality_score integer, derivation_version integer not null default 1,
  deleted_at timestamptz, raw jsonb not null default '{}', created_at timestamptz not null default now(),
  updated_at timestamptz not null default now());
create unique index uq_derived_active_symbol_tf_ts on public.derived_data_bars (canonical_symbol, timeframe, ts_utc)
  where deleted_at is null;
create index idx_derived_sym_tf_ts_desc on public.derived_data_bars (canonical_symbol, timeframe, ts_utc desc)
  where deleted_at is null;
-- Before its fifth phase: no is_mandatory, agg_start_utc, enabled, task_priority.
create table public.data_agg_state (
  canonical_symbol text not null, timeframe text not null, source_timeframe text, run_interval_minutes integer,
  aggregation_delay_seconds integer, last_agg_bar_ts_utc timestamptz, last_attempted_at_utc timestamptz,
  running_started_at_utc timestamptz, last_successful_at_utc timestamptz, next_run_at timestamptz,
  status text not null default 'idle', hard_fail_streak integer not null default 0, last_error text,
  total_runs bigint not null default 0, total_bars_created bigint not null default 0,
  total_bars_quality_poor bigint not null default 0, updated_at timestamptz not null default now(),
  primary key (canonical_symbol, timeframe));
create table public.ops_runlog (
  id bigserial primary key, run_id uuid not null, job_name text not null, trigger text not null, env_name text,
  started_at timestamptz not null default now(), finished_at timestamptz, status text not null default 'running',
  checkpoints jsonb not null default '{}', events jsonb not null default '[]', stats jsonb not null default '{}',
  created_at timestamptz not null default now());

create function public.agg_get_due_tasks(p_env_name text, p_now_utc timestamptz default now(), p_limit int default 20,
  p_running_stale_seconds int default 900)
returns table (canonical_symbol text, timeframe text, source_timeframe text, run_interval_minutes int,
  aggregation_delay_seconds int, last_agg_bar_ts_utc timestamptz, status text, hard_fail_streak int)
language sql security definer set search_path = public as $$ select null, null, null, 0, 0, now(), null, 0 where false $$;
create function public.agg_finish(p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null,
  p_fail_kind text default null, p_error text default null, p_stats jsonb default '{}', p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold int default 3)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public.agg_finish(p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null,
  p_stats jsonb default null, p_fail_kind text default null, p_error text default null, p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold int default 3)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public._upsert_derived_bar(p_symbol text, p_tf text, p_ts timestamptz, p_open double precision)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public.aggregate_1m_to_5m_window(p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz, p_derivation_version int default 1)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public.of_the_user() returns int language sql as $$ select 1 $$;

insert into public.core_asset_registry_all (canonical_symbol, active, test_active, ingest_class, base_timeframe, notes)
values ('EURUSD', true, true, 'A', '1m', 'mine'), ('DAX', true, false, 'B', '5m', null), ('DXY', false, false, 'C', null, null);
insert into public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, is_partial, source, ingested_at, raw)
select s.symbol, s.timeframe, ts, 100, 102, 98, 101, 1, false, 'massive', now(), '{}'
  from (values ('EURUSD', '1m', interval '1 minute'), ('DAX', '5m', interval '5 minutes')) s (symbol, timeframe, step),
       generate_series('2026-01-05 00:00+00'::timestamptz, '2026-01-05 05:59+00', s.step) ts;
-- Built as the predecessor builds: another vwap, another raw; one bar retired, one of the derived index, one hour of four.
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, source_timeframe,
                                      source_candles, expected_candles, quality_score, raw)
select 'EURUSD', '5m', ts, 100, 102, 98, 101, 5, 77, '1m', 5, 5, 2, '{"source": "data_bars_only"}'
  from generate_series('2026-01-05 00:00+00'::timestamptz, '2026-01-05 03:55+00', '5 minutes') ts;
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, deleted_at)
values ('EURUSD', '5m', '2026-01-05 00:00+00', 1, 1, 1, 1, now());
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
values ('DXY', '1m', '2026-01-05 00:00+00', 1, 1, 1, 1, 'dxy');
insert into public.data_agg_state (canonical_symbol, timeframe, source_timeframe, run_interval_minutes, aggregation_delay_seconds,
  last_agg_bar_ts_utc, next_run_at, status, hard_fail_streak, last_error, total_runs, total_bars_created, running_started_at_utc)
values ('EURUSD', '5m', '1m', 5, 120, '2026-01-05 04:00+00', '2026-01-05 04:07:13+00', 'idle', 1, 'e', 9, 48, null),
       ('EURUSD', '1h', '1m', 60, 300, null, null, 'running', 0, null, 0, 0, '2026-01-05 04:01+00'),
       ('DAX', '1h', '1m', 60, null, null, null, 'disabled', 3, null, 3, 0, null);
insert into public.ops_runlog (run_id, job_name, trigger) values
  ('00000000-0000-0000-0000-000000000001', 'agg-master', 'cron'), ('00000000-0000-0000-0000-000000000001', 'agg-master', 'cron');
revoke delete on public.data_bars from service_role;
