-- tasks: a task's row of data_agg_state with what its timeframe and its asset say about it.
-- Called by: every function that decides about windows. Needs: agg_state, asset_registry, timeframes.
--
-- No column raises an error, whatever a row holds: a plan may compute it for tasks that it filters out afterwards.

create view public.agg_tasks with (security_invoker = true) as
select s.canonical_symbol, s.timeframe, t.minutes, t.length, t.origin_utc,
       t.source_timeframe, t.minutes / source.minutes as expected_candles,
       t.source_timeframe = asset.base_timeframe as source_is_base, asset.base_timeframe,
       grid.first_window,
       -- A predecessor's cursor may be off the grid: its window is built once more, whole.
       greatest(grid.first_window, case when s.last_agg_bar_ts_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00'
                                        then date_bin(t.length, s.last_agg_bar_ts_utc, t.origin_utc) end) as cursor_utc,
       s.last_agg_bar_ts_utc as stored_cursor_utc,
       make_interval(secs => coalesce(s.aggregation_delay_seconds, 0)) as delay,
       make_interval(secs => s.late_deadline_seconds) as deadline,
       coalesce(s.last_agg_bar_ts_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00', true)
         and coalesce(s.next_run_at between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00', true)
         and s.agg_start_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' as is_possible
  from public.data_agg_state s
  join public.agg_timeframes t on t.timeframe = s.timeframe
  join public.agg_timeframes source on source.timeframe = t.source_timeframe
  join (select canonical_symbol, coalesce(base_timeframe, case ingest_class when 'B' then '5m' else '1m' end) as base_timeframe
          from public.core_asset_registry_all) asset on asset.canonical_symbol = s.canonical_symbol
 cross join lateral (select case when s.agg_start_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00'
                                 then date_bin(t.length, s.agg_start_utc - interval '1 microsecond', t.origin_utc) + t.length
                                 else 'infinity' end as first_window) grid;
revoke all on table public.agg_tasks from public, anon, authenticated, service_role;
comment on view public.agg_tasks is
  'Tasks with their window arithmetic. first_window: first that starts at or after agg_start_utc; cursor_utc: next window to process. is_possible: false if the cursor, the start or the next run is no time between 1900 and 2200; first_window and cursor_utc then mean nothing.';
