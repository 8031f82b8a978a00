-- What catch-up is measured against: the usual way in plpgsql, and that of the predecessor: a loop over windows, a function
-- that computes one, a function that upserts one. Called by: test_bench_catch_up. Needs: the migrations. Undo: drop the bench's database.

-- Twins of derived_data_bars with its indexes and its foreign key, without its triggers.
create table loop_bars (like public.derived_data_bars including all,
  foreign key (canonical_symbol) references public.core_asset_registry_all (canonical_symbol));
create table twin (like public.derived_data_bars including all,
  foreign key (canonical_symbol) references public.core_asset_registry_all (canonical_symbol));

create function upsert_one(
  p_symbol text, p_ts timestamptz, p_open float8, p_high float8, p_low float8, p_close float8, p_vol float8, p_vwap float8,
  p_trade_count integer, p_is_partial boolean, p_found integer, p_quality integer, p_raw jsonb) returns void language plpgsql as $$
begin
  insert into loop_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial,
                         source_timeframe, source_candles, expected_candles, quality_score, raw)
  values (p_symbol, '5m', p_ts, p_open, p_high, p_low, p_close, p_vol, p_vwap, p_trade_count, p_is_partial, '1m', p_found, 5,
          p_quality, p_raw)
  on conflict (canonical_symbol, timeframe, ts_utc) where deleted_at is null do update
     set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
         vwap = excluded.vwap, trade_count = excluded.trade_count, is_partial = excluded.is_partial,
         source_candles = excluded.source_candles, quality_score = excluded.quality_score, raw = excluded.raw;
end $$;

create function window_one(p_symbol text, p_from timestamptz, p_to timestamptz) returns jsonb language plpgsql as $$
declare
  bar record;
begin
  select (array_agg(open order by ts_utc))[1] as open, max(high) as high, min(low) as low,
         (array_agg(close order by ts_utc desc))[1] as close, sum(vol) as vol,
         sum(vwap * vol) / nullif(sum(vol) filter (where vwap is not null), 0) as vwap,
         sum(trade_count) as trade_count, bool_or(is_partial) as is_partial, count(*) as found
    into bar
    from public.data_bars
   where canonical_symbol = p_symbol and timeframe = '1m' and ts_utc >= p_from and ts_utc < p_to;
  if bar.found < 3 then
    return jsonb_build_object('success', true, 'stored', false, 'source_count', bar.found);
  end if;
  perform upsert_one(p_symbol, p_from, bar.open, bar.high, bar.low, bar.close, bar.vol, bar.vwap, bar.trade_count::integer,
                     bar.is_partial, bar.found::integer, bar.found::integer - 3,
                     jsonb_build_object('from', p_from, 'to', p_to, 'source_timeframe', '1m'));
  return jsonb_build_object('success', true, 'stored', true, 'source_count', bar.found, 'quality_score', bar.found - 3);
end $$;

create function window_loop(p_symbol text, p_from timestamptz, p_to timestamptz) returns integer language plpgsql as $$
declare
  at timestamptz := p_from;
  result jsonb;
  stored integer := 0;
begin
  while at < p_to loop
    result := window_one(p_symbol, at, at + interval '5 minutes');
    stored := stored + (result ->> 'stored')::boolean::integer;
    at := at + interval '5 minutes';
  end loop;
  return stored;
end $$;

-- The same with plans that are made once, into a table of its own.
create table loop_bars_generic (like public.derived_data_bars including all,
  foreign key (canonical_symbol) references public.core_asset_registry_all (canonical_symbol));
do $$
declare
  step text;
begin
  foreach step in array array['upsert_one', 'window_one', 'window_loop'] loop
    execute regexp_replace(pg_get_functiondef(step::regproc), '\m(upsert_one|window_one|window_loop|loop_bars)\M', '\1_generic', 'g');
  end loop;
  alter function window_loop_generic set plan_cache_mode = force_generic_plan;
end $$;

-- The same in one statement, with nothing of what catch-up has to know: cursor, leases, late bars, invalid rows, revisions.
create function plain_bars(p_from timestamptz, p_to timestamptz) returns setof public.derived_data_bars language sql stable as $$
  select nextval('public.derived_data_bars_id_seq'), b.canonical_symbol, '5m', w.ts_utc,
         (array_agg(b.open order by b.ts_utc))[1], max(b.high), min(b.low), (array_agg(b.close order by b.ts_utc desc))[1],
         sum(b.vol), sum(b.vwap * b.vol) / nullif(sum(b.vol) filter (where b.vwap is not null), 0), sum(b.trade_count)::integer,
         bool_or(b.is_partial), 'agg', now(), '1m', count(*)::integer, 5, count(*)::integer - 3, 1, null::timestamptz,
         jsonb_build_object('from', w.ts_utc, 'to', w.ts_utc + interval '5 minutes', 'source_timeframe', '1m'), now(), now(), 1
    from public.data_bars b cross join lateral (select date_bin('5 minutes', b.ts_utc, '2001-01-01Z') as ts_utc) w
   where b.timeframe = '1m' and b.ts_utc >= p_from and b.ts_utc < p_to
   group by b.canonical_symbol, w.ts_utc
  having count(*) >= 3
$$;
