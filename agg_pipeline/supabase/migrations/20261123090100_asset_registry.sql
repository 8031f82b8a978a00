-- asset registry: one row per asset; who is rolled up, from which base timeframe, in which environment.
-- Called by: sync_agg_state_from_registry, agg_register_asset. Needs: nothing. Repeat: yes; a user's rows and columns stay.
-- Undo: none; the table belongs to the ingester too.
set local lock_timeout = '10s';

do $$
begin
  if to_regclass('public.core_asset_registry_all') is null then
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
      updated_at timestamptz default now()
    );
    -- Only here: on an upgrade the ingester keeps the grants that it has.
    revoke all on table public.core_asset_registry_all from service_role;
  end if;
end $$;

-- A database of the predecessor keeps its values; only rows that are still to come default to true.
alter table public.core_asset_registry_all
  add column if not exists base_timeframe text default '1m',
  add column if not exists calc_15m boolean default true,
  add column if not exists calc_4h boolean default true,
  add column if not exists calc_1d boolean default true;
alter table public.core_asset_registry_all
  alter column calc_15m set default true,
  alter column calc_4h set default true,
  alter column calc_1d set default true;

alter table public.core_asset_registry_all enable row level security;
revoke all on table public.core_asset_registry_all from public, anon, authenticated;
grant select, insert, update on table public.core_asset_registry_all to service_role;

comment on table public.core_asset_registry_all is
  'One row per asset. active gates STAGE and PROD, test_active gates DEV and TEST; base_timeframe (1m or 5m) is what the ingester writes to data_bars; calc_<timeframe> switches a timeframe off.';
