-- What a small database of the predecessor holds besides its tables: two agg_finish, rights that browsers should not have,
-- rows.
create function public.agg_get_due_tasks(p_env_name text, p_now_utc timestamptz default now(), p_limit int default 20,
  p_running_stale_seconds int default 900)
returns table (canonical_symbol text, timeframe text, source_timeframe text, run_interval_minutes int,
  aggregation_delay_seconds int, last_agg_bar_ts_utc timestamptz, status text, hard_fail_streak int)
language sql security definer set search_path = public as $$ select null, null, null, 0, 0, now(), null, 0 where false $$;
create function public.agg_finish(p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null,
  p_fail_kind text default null, p_error text default null, p_stats jsonb default '{}', p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold int default 3)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public.agg_finish(p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null,
  p_stats jsonb default null, p_fail_kind text default null, p_error text default null, p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold int default 3)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public._upsert_derived_bar(p_symbol text, p_tf text, p_ts timestamptz, p_open double precision)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public.aggregate_1m_to_5m_window(p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz, p_derivation_version int default 1)
returns jsonb language sql security definer set search_path = public as $$ select '{"success": true}'::jsonb $$;
create function public.of_the_user() returns int language sql as $$ select 1 $$;

insert into public.core_asset_registry_all (canonical_symbol, active, test_active, ingest_class, base_timeframe, notes)
values ('EURUSD', true, true, 'A', '1m', 'mine'), ('DAX', true, false, 'B', '5m', null), ('DXY', false, false, 'C', null, null);
insert into public.data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, is_partial, source, ingested_at, raw)
select s.symbol, s.timeframe, ts, 100, 102, 98, 101, 1, false, 'massive', now(), '{}'
  from (values ('EURUSD', '1m', interval '1 minute'), ('DAX', '5m', interval '5 minutes')) s (symbol, timeframe, step),
       generate_series('2026-01-05 00:00+00'::timestamptz, '2026-01-05 05:59+00', s.step) ts;
-- Built as the predecessor builds: another vwap, another raw; one bar retired, one of the derived index, one hour of four.
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, source_timeframe,
                                      source_candles, expected_candles, quality_score, raw)
select 'EURUSD', '5m', ts, 100, 102, 98, 101, 5, 77, '1m', 5, 5, 2, '{"source": "data_bars_only"}'
  from generate_series('2026-01-05 00:00+00'::timestamptz, '2026-01-05 03:55+00', '5 minutes') ts;
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, deleted_at)
values ('EURUSD', '5m', '2026-01-05 00:00+00', 1, 1, 1, 1, now());
insert into public.derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
values ('DXY', '1m', '2026-01-05 00:00+00', 1, 1, 1, 1, 'dxy');
insert into public.data_agg_state (canonical_symbol, timeframe, source_timeframe, run_interval_minutes, aggregation_delay_seconds,
  last_agg_bar_ts_utc, next_run_at, status, hard_fail_streak, last_error, total_runs, total_bars_created, running_started_at_utc)
values ('EURUSD', '5m', '1m', 5, 120, '2026-01-05 04:00+00', '2026-01-05 04:07:13+00', 'idle', 1, 'e', 9, 48, null),
       ('EURUSD', '1h', '1m', 60, 300, null, null, 'running', 0, null, 0, 0, '2026-01-05 04:01+00'),
       ('DAX', '1h', '1m', 60, null, null, null, 'disabled', 3, null, 3, 0, null);
insert into public.ops_runlog (run_id, job_name, trigger) values
  ('00000000-0000-0000-0000-000000000001', 'agg-master', 'cron'), ('00000000-0000-0000-0000-000000000001', 'agg-master', 'cron');
revoke delete on public.data_bars from service_role;
