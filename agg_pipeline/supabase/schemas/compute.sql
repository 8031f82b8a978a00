-- _agg_compute: what a bar contains. The only place that turns source rows into bars; it reads and decides nothing
-- else.
-- Called by: _agg_forward, _agg_catch_up. Needs: source_bars, tasks, _agg_slots.
--
-- Every aggregate is ordered by ts_utc: open and close are by time, never by arrival, and a float sum in a fixed order
-- gives the same bits again, so that a recomputation without a change is seen as one.
--
-- Which of the rows were expected is asked afterwards, of assets that follow a calendar and of the windows found only.

create function public._agg_compute(p_ranges public.agg_range[])
returns setof public.agg_bar language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
begin
  return query
with bar as materialized (
select r.canonical_symbol, r.timeframe, t.length, t.source_is_base, t.source_timeframe, t.expected_candles as slots, w.*
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
     group by 1) w
), hours as materialized (
select s.*
  from (select array_agg((b.canonical_symbol, b.timeframe, b.ts_utc, b.ts_utc + b.length)::public.agg_range) as windows
          from bar b
         where b.canonical_symbol = any (array(select c.canonical_symbol from unnest(p_ranges) r
                 join public.agg_symbol_calendars c on c.canonical_symbol = r.canonical_symbol))) work
 cross join lateral public._agg_slots(work.windows) s
 where work.windows is not null
)
select b.canonical_symbol, b.timeframe, b.ts_utc, b.ts_utc + b.length, b.open, b.high, b.low, b.close, b.vol,
       b.weighted / nullif(b.weight, 0) as vwap, b.trade_count, b.is_partial,
       b.source_timeframe, b.found, e.expected,
       case
         when e.expected = 0 then case when b.found > 0 then 2 end
         when e.inside >= e.expected then 2
         when e.inside * 10 >= e.expected * 8 then 1
         when e.inside * 10 >= e.expected * 6 then 0
         when e.inside * 10 > e.expected * 5 then -1
       end as quality_score,
       b.rejected_count, to_jsonb(b.rejected[1:20]), b.found - e.inside
  from bar b
  left join hours h on h.canonical_symbol = b.canonical_symbol and h.timeframe = b.timeframe and h.from_utc = b.ts_utc
 cross join lateral (
    select coalesce(h.expected, b.slots) as expected,
           case when h.expected is null then b.found
                when h.expected = 0 then 0
                else (select count(*) from public.agg_source_bars s
                       where s.is_base = b.source_is_base
                         and s.canonical_symbol = b.canonical_symbol and s.timeframe = b.source_timeframe
                         and s.ts_utc >= b.ts_utc and s.ts_utc < b.ts_utc + b.length
                         and s.reject_reason is null and not h.closed @> s.ts_utc)::integer
           end as inside) e;
end $$;
comment on function public._agg_compute(public.agg_range[]) is
  'Bars of every window in the ranges that has a source row, computed fresh. Ranges must be on the grid of their task.';
revoke execute on function public._agg_compute(public.agg_range[]) from public, anon, authenticated, service_role;
