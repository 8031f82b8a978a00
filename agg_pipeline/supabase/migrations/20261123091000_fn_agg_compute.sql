-- _agg_compute: what a bar contains. The only place that turns source rows into bars; it reads and decides nothing else.
-- Called by: _agg_forward, _agg_catch_up. Needs: source_bars, tasks, types. Repeat: yes.
-- Undo: drop function public._agg_compute;
--
-- Every aggregate is ordered by ts_utc: open and close are by time, never by arrival, and a float sum in a fixed order
-- gives the same bits again, so that a recomputation without a change is seen as one.
create or replace function public._agg_compute(p_ranges public.agg_range[])
returns setof public.agg_bar language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
begin
  return query
select r.canonical_symbol, r.timeframe, w.ts_utc, w.open, w.high, w.low, w.close, w.vol,
       w.weighted / nullif(w.weight, 0) as vwap, w.trade_count, w.is_partial,
       t.source_timeframe, w.found, t.expected_candles,
       case
         when w.found >= t.expected_candles then 2
         when w.found * 10 >= t.expected_candles * 8 then 1
         when w.found * 10 >= t.expected_candles * 6 then 0
         when w.found * 10 > t.expected_candles * 5 then -1
       end as quality_score,
       w.rejected_count, to_jsonb(w.rejected[1:20])
  from unnest(p_ranges) r
  join public.agg_tasks t on t.canonical_symbol = r.canonical_symbol and t.timeframe = r.timeframe
 cross join lateral (
    select date_bin(t.length, b.ts_utc, t.origin_utc) as ts_utc,
           (array_agg(b.open order by b.ts_utc) filter (where b.valid))[1] as open,
           max(b.high) filter (where b.valid) as high,
           min(b.low) filter (where b.valid) as low,
           (array_agg(b.close order by b.ts_utc) filter (where b.valid))[count(*) filter (where b.valid)] as close,
           sum(b.vol order by b.ts_utc) filter (where b.valid) as vol,
           sum(b.vwap * b.vol order by b.ts_utc) filter (where b.valid) as weighted,
           sum(b.vol order by b.ts_utc) filter (where b.valid and b.vwap is not null) as weight,
           sum(b.trade_count) filter (where b.valid) as trade_count,
           coalesce(bool_or(b.is_partial) filter (where b.valid), false) as is_partial,
           (count(*) filter (where b.valid))::integer as found,
           (count(*) filter (where not b.valid))::integer as rejected_count,
           array_agg(jsonb_build_object('ts_utc', b.ts_utc, 'reason', b.reject_reason) order by b.ts_utc)
             filter (where not b.valid) as rejected
      -- offset 0 keeps the planner from writing the validity rule out once per aggregate.
      from (select s.*, s.reject_reason is null as valid
              from public.agg_source_bars s
             where s.is_base = t.source_is_base
               and s.canonical_symbol = r.canonical_symbol and s.timeframe = t.source_timeframe
               and s.ts_utc >= r.from_utc and s.ts_utc < r.to_utc
            offset 0) b
     group by 1) w;
end $$;
revoke execute on function public._agg_compute(public.agg_range[]) from public, anon, authenticated, service_role;
comment on function public._agg_compute(public.agg_range[]) is
  'Bars of every window in the ranges that has a source row, computed fresh. Ranges must be on the grid of their task.';
