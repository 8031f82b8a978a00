-- bars: raw bars of the ingester (data_bars) and the bars built from them (derived_data_bars).
-- Called by: ingesters write data_bars; only _agg_store writes derived_data_bars. Needs: asset_registry, timeframes.

create table public.data_bars (
  id bigserial primary key,
  canonical_symbol text not null references public.core_asset_registry_all (canonical_symbol),
  provider_ticker text,
  timeframe text not null constraint bars_timeframe_check check (timeframe in ('1m', '5m', '1h', '2h', '4h')),
  ts_utc timestamptz not null,
  open double precision,
  high double precision,
  low double precision,
  close double precision,
  vol double precision,
  vwap double precision,
  trade_count integer,
  is_partial boolean not null default false,
  source text not null,
  ingested_at timestamptz not null default now(),
  raw jsonb not null default '{}',
  constraint data_bars_symbol_tf_ts_unique unique (canonical_symbol, timeframe, ts_utc),
  constraint bars_provider_ticker_required_chk check (source <> 'massive' or provider_ticker is not null)
);
alter table public.data_bars enable row level security;
revoke all on table public.data_bars from public, anon, authenticated, service_role;
grant select, insert, update on table public.data_bars to service_role;
revoke all on sequence public.data_bars_id_seq from service_role;
grant usage on sequence public.data_bars_id_seq to service_role;
comment on table public.data_bars is
  'Raw bars as ingested; ts_utc is the start of the bar. Any row may come late, change or go: the windows that it touches are rebuilt.';

create table public.derived_data_bars (
  id bigserial primary key,
  canonical_symbol text not null references public.core_asset_registry_all (canonical_symbol),
  timeframe text not null,
  ts_utc timestamptz not null,
  open double precision not null,
  high double precision not null,
  low double precision not null,
  close double precision not null,
  vol double precision,
  vwap double precision,
  trade_count integer,
  is_partial boolean not null default false,
  source text not null default 'agg',
  ingested_at timestamptz not null default now(),
  source_timeframe text,
  source_candles integer,
  expected_candles integer,
  quality_score integer,
  derivation_version integer not null default 1,
  deleted_at timestamptz,
  raw jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  revision integer not null default 1
);

create unique index uq_derived_active_symbol_tf_ts
  on public.derived_data_bars (canonical_symbol, timeframe, ts_utc) where deleted_at is null;

-- Finds the last revision of a bar that was retired, so that its number goes on; small, since it holds no live bar.
create index idx_derived_retired_symbol_tf_ts
  on public.derived_data_bars (canonical_symbol, timeframe, ts_utc, revision) where deleted_at is not null;

alter table public.derived_data_bars enable row level security;
revoke all on table public.derived_data_bars from public, anon, authenticated, service_role;
grant select on table public.derived_data_bars to service_role;
comment on table public.derived_data_bars is
  'Bars built from data_bars; ts_utc is the start of the window. Live rows have deleted_at null; a changed bar is a new row with revision + 1, the old one keeps its values.';
