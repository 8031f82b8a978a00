-- The predecessor's tables before its fifth phase, as its users' databases hold them.
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
-- No is_mandatory, agg_start_utc, enabled, task_priority yet.
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
