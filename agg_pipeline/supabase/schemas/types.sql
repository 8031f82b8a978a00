-- types: what the steps of a catch-up hand to each other.
-- Called by: _agg_compute, _agg_forward, _agg_store, _agg_catch_up. Needs: nothing.

create type public.agg_range as (canonical_symbol text, timeframe text, from_utc timestamptz, to_utc timestamptz);
create type public.agg_bar as (
  canonical_symbol text, timeframe text, ts_utc timestamptz, to_utc timestamptz,
  open double precision, high double precision, low double precision, close double precision,
  vol double precision, vwap double precision, trade_count bigint, is_partial boolean,
  source_timeframe text, source_candles integer, expected_candles integer,
  quality_score integer, source_rejected integer, rejected jsonb, off_session integer);
create type public.agg_frontier as (
  canonical_symbol text, timeframe text, from_utc timestamptz, to_utc timestamptz,
  has_more boolean, bars public.agg_bar[]);
comment on type public.agg_range is 'Windows [from_utc, to_utc) of one task, on its grid.';
comment on type public.agg_bar is
  'One window [ts_utc, to_utc) with source rows, freshly computed. quality_score null: too few valid rows, no bar is to be stored. off_session: valid rows that nobody expected.';
comment on type public.agg_frontier is
  'What one task may pass now: windows [from_utc, to_utc) with their bars; has_more: stopped by max_windows.';
