-- agg_bars_page: raw bars, live derived bars, cursors and touched windows of one symbol, as they stood at one moment.
-- Called by: AggGateway.bars_page (agg-pipeline verify). Needs: bars, tasks, dirty_ranges, trading_calendars.
--
-- One statement, so one snapshot: a tick in between cannot make a right bar look wrong. Columns instead of rows, in one
-- value: a third of the bytes, and no limit of a REST API on rows cuts it short.

create function public.agg_bars_page(p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz)
returns json language sql stable security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
  select json_build_object(
    'tasks', (select coalesce(json_agg(json_build_object(
                'timeframe', t.timeframe, 'base_timeframe', t.base_timeframe,
                'first_window_utc', t.first_window, 'cursor_utc', t.cursor_utc)), '[]')
                from public.agg_tasks t where t.canonical_symbol = p_symbol and t.is_possible),
    'touched', (select coalesce(json_agg(json_build_object(
                  'timeframe', d.timeframe, 'from_utc', d.from_utc, 'to_utc', d.to_utc)), '[]')
                  from public.agg_dirty_ranges d
                 where d.canonical_symbol = p_symbol and d.from_utc < p_to_utc and d.to_utc > p_from_utc),
    'schedules', (select coalesce(json_agg(json_build_object('from_utc', c.from_utc, 'to_utc', c.to_utc, 'sessions', (
                    select coalesce(json_agg(json_build_array(s.open_utc, s.close_utc) order by s.open_utc), '[]')
                      from public.trading_sessions s
                     where s.calendar = c.calendar and s.open_utc < p_to_utc and s.open_utc > p_from_utc - interval '168 hours'
                       and s.close_utc > p_from_utc))), '[]')
                    from public.agg_symbol_calendars c
                   where c.canonical_symbol = p_symbol and c.from_utc < p_to_utc and c.to_utc > p_from_utc),
    'raw', (select json_build_object(
              'timeframe', coalesce(json_agg(b.timeframe), '[]'),
              'ts_us', coalesce(json_agg((extract(epoch from b.ts_utc) * 1000000)::bigint), '[]'),
              'open', coalesce(json_agg(b.open), '[]'), 'high', coalesce(json_agg(b.high), '[]'),
              'low', coalesce(json_agg(b.low), '[]'), 'close', coalesce(json_agg(b.close), '[]'),
              'vol', coalesce(json_agg(b.vol), '[]'), 'vwap', coalesce(json_agg(b.vwap), '[]'),
              'trade_count', coalesce(json_agg(b.trade_count), '[]'), 'is_partial', coalesce(json_agg(b.is_partial), '[]'))
              from public.data_bars b
              join (select distinct t.base_timeframe from public.agg_tasks t where t.canonical_symbol = p_symbol) base
                on base.base_timeframe = b.timeframe
             where b.canonical_symbol = p_symbol and b.ts_utc >= p_from_utc and b.ts_utc < p_to_utc),
    'derived', (select json_build_object(
              'timeframe', coalesce(json_agg(d.timeframe), '[]'),
              'ts_us', coalesce(json_agg((extract(epoch from d.ts_utc) * 1000000)::bigint), '[]'),
              'open', coalesce(json_agg(d.open), '[]'), 'high', coalesce(json_agg(d.high), '[]'),
              'low', coalesce(json_agg(d.low), '[]'), 'close', coalesce(json_agg(d.close), '[]'),
              'vol', coalesce(json_agg(d.vol), '[]'), 'vwap', coalesce(json_agg(d.vwap), '[]'),
              'trade_count', coalesce(json_agg(d.trade_count), '[]'), 'is_partial', coalesce(json_agg(d.is_partial), '[]'),
              'source_candles', coalesce(json_agg(d.source_candles), '[]'),
              'expected_candles', coalesce(json_agg(d.expected_candles), '[]'),
              'quality_score', coalesce(json_agg(d.quality_score), '[]'))
              from public.derived_data_bars d
              join public.agg_tasks t on t.canonical_symbol = d.canonical_symbol and t.timeframe = d.timeframe
               and t.is_possible
             where d.canonical_symbol = p_symbol and d.deleted_at is null and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc))
$$;
comment on function public.agg_bars_page(text, timestamptz, timestamptz) is
  'Raw bars (base timeframe) and live derived bars of a symbol in a range, columns as arrays, times in microseconds since 1970; its tasks; its touched windows; the sessions that it follows. One snapshot.';
revoke execute on function public.agg_bars_page(text, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_bars_page(text, timestamptz, timestamptz) to service_role;
