-- _agg_store: make the live bars of some windows equal to freshly computed ones; keep what they replace.
-- Called by: _agg_catch_up, agg_rebuild_range. Needs: bars, touched_days, types.
--
-- A bar without a change is not written at all. A changed one is closed (deleted_at) and followed by revision + 1 in
-- one statement, so that readers see either the old or the new, never both or none. p_derivation_version is what new
-- rows get, null: what the bar had; p_restamp: a bar of another version counts as changed.

create function public._agg_store(
  p_ranges public.agg_range[], p_bars public.agg_bar[], p_derivation_version integer, p_restamp boolean default false)
returns table (canonical_symbol text, timeframe text, windows integer, created integer, revised integer, retired integer,
               unchanged integer, poor integer, skipped integer, rejected integer)
language plpgsql volatile set search_path = '' set timezone = 'UTC' set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- Not now(): a transaction that began earlier may get its turn later, and its rows must not be older than those it ends.
  stamp constant timestamptz := clock_timestamp();
  -- Seldom, and asked once: else every new bar looks for an earlier revision of its own.
  any_retired constant boolean := exists (
    select from unnest(p_ranges) r
     cross join lateral (
        select from public.derived_data_bars
         where canonical_symbol = r.canonical_symbol and timeframe = r.timeframe
           and ts_utc >= r.from_utc and ts_utc < r.to_utc and deleted_at is not null
         limit 1) retired);
begin
  return query
  with fresh as materialized (
    select * from unnest(p_bars)
  ), live as materialized (
    -- offset 0: from each range into the index, whatever the planner believes of a table that was empty when it looked.
    select d.* from unnest(p_ranges) r
     cross join lateral (
        select * from public.derived_data_bars
         where canonical_symbol = r.canonical_symbol and timeframe = r.timeframe
           and ts_utc >= r.from_utc and ts_utc < r.to_utc and deleted_at is null
        offset 0) d
  ), verdict as materialized (
    select coalesce(f.canonical_symbol, l.canonical_symbol) as symbol, coalesce(f.timeframe, l.timeframe) as tf,
           coalesce(f.ts_utc, l.ts_utc)::date as day, f.*,
           l.id as live_id, l.revision as live_revision, l.derivation_version as live_version,
           case
             when f.quality_score is null and l.id is null then 'absent'
             when f.quality_score is null then 'retired'
             when l.id is null then 'created'
             when (f.open, f.high, f.low, f.close, f.vol, f.vwap, f.trade_count, f.is_partial, f.source_timeframe,
                   f.source_candles, f.expected_candles, f.quality_score, nullif(f.source_rejected, 0), f.rejected,
                   nullif(f.off_session, 0))
                  is distinct from
                  (l.open, l.high, l.low, l.close, l.vol, l.vwap, l.trade_count::bigint, l.is_partial, l.source_timeframe,
                   l.source_candles, l.expected_candles, l.quality_score, (l.raw -> 'rejected_count')::integer,
                   l.raw -> 'rejected', (l.raw -> 'off_session')::integer) then 'revised'
             when p_restamp and l.derivation_version <> p_derivation_version then 'revised'
             else 'unchanged'
           end as outcome
      from fresh f
      full join live l on l.canonical_symbol = f.canonical_symbol and l.timeframe = f.timeframe and l.ts_utc = f.ts_utc
  ), closed as (
    update public.derived_data_bars d set deleted_at = stamp
     where d.id = any (array(select v.live_id from verdict v where v.outcome in ('revised', 'retired')))
    returning 1
  ), written as (
    insert into public.derived_data_bars (
      canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
      ingested_at, source_timeframe, source_candles, expected_candles, quality_score, derivation_version, revision,
      raw, created_at, updated_at)
    select v.symbol, v.tf, v.ts_utc, v.open, v.high, v.low, v.close, v.vol, v.vwap, v.trade_count::integer, v.is_partial, 'agg',
           stamp, v.source_timeframe, v.source_candles, v.expected_candles, v.quality_score,
           coalesce(p_derivation_version, v.live_version, last.derivation_version, 1),
           1 + coalesce(v.live_revision, last.revision, 0),
           case when v.source_rejected > 0 or v.off_session > 0
                then origin.raw || jsonb_strip_nulls(jsonb_build_object(
                       'rejected_count', nullif(v.source_rejected, 0), 'rejected', v.rejected, 'off_session', nullif(v.off_session, 0)))
                else origin.raw end,
           stamp, stamp
      from verdict v
     cross join lateral (
        select jsonb_build_object('source_timeframe', v.source_timeframe, 'from', v.ts_utc, 'to', v.to_utc) as raw) origin
      left join lateral (
        select old.revision, old.derivation_version from public.derived_data_bars old
         where any_retired and v.live_id is null and old.canonical_symbol = v.symbol and old.timeframe = v.tf
           and old.ts_utc = v.ts_utc and old.deleted_at is not null
         order by old.canonical_symbol desc, old.timeframe desc, old.ts_utc desc, old.revision desc limit 1) last on true
     -- Counting "closed" first makes the insert wait for the update: the unique index must have let the old row go.
     where v.outcome in ('created', 'revised') and (select count(*) from closed) >= 0
    returning 1
  ), touched as (
    insert into public.agg_touched_days (timeframe, day)
    select distinct v.tf, v.day from verdict v
     where v.outcome in ('created', 'revised', 'retired')
       and not exists (select from public.agg_touched_days t where t.timeframe = v.tf and t.day = v.day)
  )
  select v.symbol, v.tf, count(*)::integer,
         (count(*) filter (where v.outcome = 'created'))::integer,
         (count(*) filter (where v.outcome = 'revised'))::integer,
         (count(*) filter (where v.outcome = 'retired'))::integer,
         (count(*) filter (where v.outcome = 'unchanged'))::integer,
         (count(*) filter (where v.outcome in ('created', 'revised') and v.quality_score <= 0))::integer,
         (count(*) filter (where v.quality_score is null and v.ts_utc is not null))::integer,
         coalesce(sum(v.source_rejected), 0)::integer
    from verdict v
   group by 1, 2
  having (select count(*) from written) >= 0;
end $$;
comment on function public._agg_store(public.agg_range[], public.agg_bar[], integer, boolean) is
  'Live bars of p_ranges become p_bars: bars are created, revised, retired or left alone. One row per task that had any.';
revoke execute on function public._agg_store(public.agg_range[], public.agg_bar[], integer, boolean)
  from public, anon, authenticated, service_role;
