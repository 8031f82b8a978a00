-- asset registry: one row per asset; who is rolled up, from which base timeframe, in which environment.
-- Called by: sync_agg_state_from_registry, agg_register_asset. Needs: nothing.

create table public.core_asset_registry_all (
  canonical_symbol text primary key,
  provider_ticker text,
  asset_class text,
  source text,
  endpoint_key text,
  query_params jsonb,
  active boolean default true,
  test_active boolean default false,
  notes text,
  ingest_class text,
  base_timeframe text default '1m',
  is_sparse boolean default false,
  is_contract boolean default false,
  contract_root text,
  contract_expiry_utc timestamptz,
  expected_update_seconds integer,
  calc_15m boolean default true,
  calc_4h boolean default true,
  calc_1d boolean default true,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  trading_calendar text not null  -- given by the trigger agg_calendar_of_asset
);
alter table public.core_asset_registry_all enable row level security;
revoke all on table public.core_asset_registry_all from public, anon, authenticated, service_role;
grant select, insert, update on table public.core_asset_registry_all to service_role;
comment on table public.core_asset_registry_all is
  'One row per asset. active gates STAGE and PROD, test_active gates DEV and TEST; base_timeframe (1m or 5m) is what the ingester writes to data_bars; calc_<timeframe> switches a timeframe off.';
comment on column public.core_asset_registry_all.trading_calendar is
  '24x7, fx_24x5 or an exchange of trading_calendars: which bars are expected. A new row gets fx_24x5 if its asset_class is fx.';
