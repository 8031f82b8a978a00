-- source bars: every row that a task may be built from, with the one rule of what makes a row invalid.
-- Called by: _agg_compute, _agg_forward, v_aggregation_health. Needs: bars, timeframes.

create view public.agg_source_bars with (security_invoker = true) as
select b.is_base, b.canonical_symbol, b.timeframe, b.ts_utc,
       b.open, b.high, b.low, b.close, b.vol,
       -- A vwap or count that makes no sense is unknown, and harms nothing else of its row.
       case when b.vwap > '-Infinity' and b.vwap < 'Infinity' then b.vwap end as vwap,
       case when b.trade_count >= 0 then b.trade_count end as trade_count,
       b.is_partial,
       -- NaN sorts above Infinity, so that "<= 1e30" refuses both. Sums and means of rows within the bounds may lie a little
       -- outside of them, and overflow nothing.
       case
         when b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00'
              and b.ts_utc = date_bin(t.length, b.ts_utc, t.origin_utc)
              and b.low >= -1e30 and b.high <= 1e30 and b.open between b.low and b.high and b.close between b.low and b.high
              and (b.vol is null or b.vol >= 0 and b.vol < 'Infinity')
              and (not b.is_base or (b.vol is null or b.vol <= 1e30)
                   and (b.vwap is null or abs(b.vwap) <= 1e30 or b.vwap in ('NaN', 'Infinity', '-Infinity'))
                   and (b.trade_count is null or b.trade_count <= 1000000000000000)) then null
         when not (b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00') then 'out of range'
         when b.ts_utc <> date_bin(t.length, b.ts_utc, t.origin_utc) then 'time off the grid'
         when b.open is null or b.high is null or b.low is null or b.close is null then 'price missing'
         when not (b.open > '-Infinity' and b.open < 'Infinity' and b.high > '-Infinity' and b.high < 'Infinity'
               and b.low > '-Infinity' and b.low < 'Infinity' and b.close > '-Infinity' and b.close < 'Infinity')
           then 'price not finite'
         when b.high < b.low then 'high below low'
         when b.open not between b.low and b.high then 'open outside low to high'
         when b.close not between b.low and b.high then 'close outside low to high'
         when b.vol < 0 or b.vol >= 'Infinity' then 'volume negative or not finite'
         else 'out of range'
       end as reject_reason
  -- No "where" inside the union: only then the planner reads both tables in the order of their indexes, and a look for the
  -- next row does not sort all that follows.
  from (select true as is_base, canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial,
               null::timestamptz as deleted_at
          from public.data_bars
        union all
        select false, canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, deleted_at
          from public.derived_data_bars) b
  join public.agg_timeframes t on t.timeframe = b.timeframe
 where b.deleted_at is null;
revoke all on table public.agg_source_bars from public, anon, authenticated, service_role;
comment on view public.agg_source_bars is
  'Rows of data_bars (is_base) and live rows of derived_data_bars. reject_reason null: valid; else why the row counts as missing.';
