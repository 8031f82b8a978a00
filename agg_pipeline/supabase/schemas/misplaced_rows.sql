-- agg_misplaced_rows: rows that an ingester put where nothing reads them, and rows that are there twice.
-- Called by: AggGateway.misplaced_rows (agg-pipeline check). Needs: bars, tasks.
--
-- A symbol's raw bars belong into data_bars, under its base timeframe; what tasks build, into derived_data_bars. Twice:
-- two rows within one bar's length, which no unique constraint forbids where their times differ by seconds.

create function public.agg_misplaced_rows(p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz)
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
  -- Timeframe by timeframe, so that each is one range of an index; the last two are what an ingester may write besides.
  with named as materialized (
    select t.timeframe from public.agg_timeframes t union values ('30m'), ('2h')
  ), stored as materialized (
    select 'data_bars' as "table", b.timeframe, b.ts_utc from named n join public.data_bars b on b.timeframe = n.timeframe
     where b.canonical_symbol = p_symbol and b.ts_utc >= p_from_utc and b.ts_utc < p_to_utc
    union all
    select 'derived_data_bars', d.timeframe, d.ts_utc from named n join public.derived_data_bars d on d.timeframe = n.timeframe
     where d.canonical_symbol = p_symbol and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc and d.deleted_at is null
  ), known as materialized (
    select distinct 'data_bars' as "table", t.base_timeframe as timeframe from public.agg_tasks t where t.canonical_symbol = p_symbol
    union
    select 'derived_data_bars', t.timeframe from public.agg_tasks t where t.canonical_symbol = p_symbol
  ), found as (
    select 'wrong table' as kind, s."table", s.timeframe, count(*) as rows, min(s.ts_utc) as first_utc
      from stored s where not exists (select from known k where k."table" = s."table" and k.timeframe = s.timeframe)
     group by s."table", s.timeframe
    union all
    select 'duplicate', slot."table", slot.timeframe, sum(slot.rows - 1), min(slot.first_utc)
      from (select s."table", s.timeframe, count(*) as rows, min(s.ts_utc) as first_utc
              from stored s join public.agg_timeframes t on t.timeframe = s.timeframe
             group by s."table", s.timeframe, date_bin(t.length, s.ts_utc, t.origin_utc) having count(*) > 1) slot
     group by slot."table", slot.timeframe
  )
  select coalesce(jsonb_agg(to_jsonb(f) order by f.kind, f."table", f.timeframe), '[]') from found f
$$;
comment on function public.agg_misplaced_rows(text, timestamptz, timestamptz) is
  'Array {kind, table, timeframe, rows, first_utc}: rows of a symbol in a range that no task reads (wrong table), or more than one within a bar''s length (duplicate); retired ones do not count.';
revoke execute on function public.agg_misplaced_rows(text, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_misplaced_rows(text, timestamptz, timestamptz) to service_role;
