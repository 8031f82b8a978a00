-- The hour of migration 010: the union of both tables, and a name that is gone by the time a bar is stored.
create or replace function public.aggregate_5m_to_1h_window(
  p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz, p_derivation_version int default 1)
returns jsonb language plpgsql security definer set search_path = public as $$
declare
  cnt int;
  o double precision;
begin
  with agg as (
    select ts_utc from data_bars where canonical_symbol = p_symbol and timeframe = '5m' and ts_utc >= p_from_utc and ts_utc < p_to_utc
    union all
    select ts_utc from derived_data_bars
     where canonical_symbol = p_symbol and timeframe = '5m' and deleted_at is null and ts_utc >= p_from_utc and ts_utc < p_to_utc
  )
  select count(*) into cnt from agg;
  if cnt < 8 then
    return jsonb_build_object('success', true, 'stored', false, 'reason', 'no_source_data', 'source_count', cnt);
  end if;
  select open into o from agg limit 1;
  return jsonb_build_object('success', true, 'stored', true, 'source_count', cnt, 'kind', 'aggregation', 'method', '5m_to_1h');
end $$;
-- Since the ninth its hours have failed, until the tasks stopped.
delete from public.derived_data_bars where timeframe = '1h' and ts_utc >= '2026-01-09 00:00+00';
update public.data_agg_state set last_agg_bar_ts_utc = '2026-01-09 00:00+00', status = 'hard_failed', hard_fail_streak = 3,
       last_error = 'relation "agg" does not exist' where timeframe = '1h' and canonical_symbol in ('EURUSD', 'BTCUSD');
update public.data_agg_state set status = 'disabled', is_mandatory = false where timeframe = '1h' and canonical_symbol = 'BTCUSD';
