-- Two weeks of the predecessor at work on the bars of "feed": hour by hour its order of tasks, with what that leaves behind.
-- Four symbols: EURUSD (stops at the weekend), BTCUSD (stops at its outage, and was moved on by hand, off the grid),
-- XAUUSD (loaded after its cursor was set), DE40 (of 5m bars, which it never read).
create function pg_temp.work(p_symbol text, p_tf text, p_now timestamptz) returns void language plpgsql as $$
declare
  task jsonb := public.agg_start(p_symbol, p_tf, p_now);
  done jsonb;
begin
  done := public.catchup_aggregation_range(p_symbol, p_tf, coalesce((task ->> 'last_agg_bar_ts_utc')::timestamptz,
    public.agg_bootstrap_cursor(p_symbol, p_tf, p_now)), 100, p_now, 1, false);
  perform public.agg_finish(p_symbol, p_tf, true, (done ->> 'cursor_advanced_to')::timestamptz, done, null, null, p_now, 3);
end $$;

-- One row in fifty comes a day late, when nobody looks at its window any more.
create function pg_temp.is_late(p_ts timestamptz) returns boolean language sql immutable as $$
  select (extract(epoch from p_ts) / 60)::bigint * 7919 % 50 = 0
$$;
create function pg_temp.ingest(p_from timestamptz, p_to timestamptz, p_late boolean) returns void language sql as $$
  insert into public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial,
                                source, ingested_at, raw)
  select canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, false, 'synthetic', now(), '{}'
    from feed where ts_utc >= p_from and ts_utc < p_to and pg_temp.is_late(ts_utc) = p_late
     and (canonical_symbol <> 'XAUUSD' or p_late is null or p_to = '2026-01-20 00:00+00')
$$;

do $$
declare
  hour timestamptz;
  symbol text;
begin
  for hour in select generate_series('2026-01-05 01:00+00'::timestamptz, '2026-01-19 00:00+00', '1 hour') loop
    -- The newest minutes are not to be had yet: the hour's last window is built from fewer bars than there will be.
    perform pg_temp.ingest(hour - interval '1 hour 1 minute', hour - interval '6 minutes', false);
    foreach symbol in array array['EURUSD', 'BTCUSD', 'DE40'] loop
      perform pg_temp.work(symbol, '5m', hour - interval '4 minutes');
    end loop;
    perform pg_temp.ingest(hour - interval '6 minutes', hour - interval '1 minute', false);
    -- "1h" sorts before "5m".
    foreach symbol in array array['EURUSD', 'BTCUSD', 'DE40'] loop
      perform pg_temp.work(symbol, '1h', hour + interval '1 minute');
      perform pg_temp.work(symbol, '5m', hour + interval '1 minute');
    end loop;
    -- What operators did about its stops.
    if hour = '2026-01-07 05:00+00' then
      update public.data_agg_state set last_agg_bar_ts_utc = '2026-01-07 04:32+00' where canonical_symbol = 'BTCUSD' and timeframe = '5m';
      update public.data_agg_state set last_agg_bar_ts_utc = '2026-01-07 04:00+00' where canonical_symbol = 'BTCUSD' and timeframe = '1h';
    elsif hour = '2026-01-12 01:00+00' then
      update public.data_agg_state set last_agg_bar_ts_utc = '2026-01-12 00:00+00' where canonical_symbol = 'EURUSD';
    end if;
  end loop;
  perform pg_temp.ingest('2026-01-18 23:59+00', '2026-01-19 00:00+00', false);
  perform pg_temp.ingest('2026-01-05 00:00+00', '2026-01-20 00:00+00', true);
end $$;
insert into public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial,
                              source, ingested_at, raw)
select canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, false, 'synthetic', now(), '{}'
  from feed where canonical_symbol = 'XAUUSD'
on conflict do nothing;

-- A rebuild by its own function that stopped at an empty window and left the rest deleted.
update public.derived_data_bars set deleted_at = now()
 where canonical_symbol = 'BTCUSD' and timeframe = '5m' and ts_utc >= '2026-01-06 06:00+00' and ts_utc < '2026-01-06 09:00+00';
-- A correction after the fact, and rows that are unsound.
update public.data_bars set high = high * 1.01 where canonical_symbol = 'EURUSD' and ts_utc = '2026-01-08 12:02+00';
update public.data_bars set close = null where canonical_symbol = 'BTCUSD' and ts_utc = '2026-01-08 12:02+00';
update public.data_bars set high = low - 1 where canonical_symbol = 'BTCUSD' and ts_utc = '2026-01-08 12:03+00';
update public.data_bars set vol = 'NaN' where canonical_symbol = 'DE40' and ts_utc = '2026-01-08 12:00+00';
-- Its derived index.
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
values ('DXY', '1m', '2026-01-05 00:00+00', 1, 1, 1, 1, 'dxy');
insert into public.ops_runlog (run_id, job_name, trigger, status)
select '00000000-0000-0000-0000-000000000001', 'agg-master', 'cron', 'success' from generate_series(1, 2);
