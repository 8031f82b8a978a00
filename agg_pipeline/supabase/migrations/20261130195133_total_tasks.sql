-- total tasks: agg_tasks.
-- Written by `make migration` from supabase/schemas, where the reasons are. Needs: all migrations before it.
-- Repeat: yes. Undo: the same objects as the version before has them.
set local lock_timeout = '10s';

create or replace view public.agg_tasks with (security_invoker=true) as
 SELECT s.canonical_symbol,
    s.timeframe,
    t.minutes,
    t.length,
    t.origin_utc,
    t.source_timeframe,
    (t.minutes / source.minutes) AS expected_candles,
    (t.source_timeframe = asset.base_timeframe) AS source_is_base,
    asset.base_timeframe,
    grid.first_window,
    GREATEST(grid.first_window,
        CASE
            WHEN ((s.last_agg_bar_ts_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.last_agg_bar_ts_utc <= '2200-01-01 00:00:00+00'::timestamp with time zone)) THEN date_bin(t.length, s.last_agg_bar_ts_utc, t.origin_utc)
            ELSE NULL::timestamp with time zone
        END) AS cursor_utc,
    s.last_agg_bar_ts_utc AS stored_cursor_utc,
    make_interval(secs => (COALESCE(s.aggregation_delay_seconds, 0))::double precision) AS delay,
    make_interval(secs => (s.late_deadline_seconds)::double precision) AS deadline,
    (COALESCE(((s.last_agg_bar_ts_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.last_agg_bar_ts_utc <= '2200-01-01 00:00:00+00'::timestamp with time zone)), true) AND COALESCE(((s.next_run_at >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.next_run_at <= '2200-01-01 00:00:00+00'::timestamp with time zone)), true) AND ((s.agg_start_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.agg_start_utc <= '2200-01-01 00:00:00+00'::timestamp with time zone))) AS is_possible
   FROM ((((public.data_agg_state s
     JOIN public.agg_timeframes t ON ((t.timeframe = s.timeframe)))
     JOIN public.agg_timeframes source ON ((source.timeframe = t.source_timeframe)))
     JOIN ( SELECT core_asset_registry_all.canonical_symbol,
            COALESCE(core_asset_registry_all.base_timeframe,
                CASE core_asset_registry_all.ingest_class
                    WHEN 'B'::text THEN '5m'::text
                    ELSE '1m'::text
                END) AS base_timeframe
           FROM public.core_asset_registry_all) asset ON ((asset.canonical_symbol = s.canonical_symbol)))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN ((s.agg_start_utc >= '1900-01-01 00:00:00+00'::timestamp with time zone) AND (s.agg_start_utc <= '2200-01-01 00:00:00+00'::timestamp with time zone)) THEN (date_bin(t.length, (s.agg_start_utc - '00:00:00.000001'::interval), t.origin_utc) + t.length)
                    ELSE 'infinity'::timestamp with time zone
                END AS first_window) grid);

comment on view public.agg_tasks is 'Tasks with their window arithmetic. first_window: first that starts at or after agg_start_utc; cursor_utc: next window to process. is_possible: false if the cursor, the start or the next run is no time between 1900 and 2200; first_window and cursor_utc then mean nothing.';
notify pgrst, 'reload schema';
