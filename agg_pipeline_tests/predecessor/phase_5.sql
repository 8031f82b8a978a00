-- Its fifth phase: an operator's columns, and the functions that its worker calls. Written from what they are known to do,
-- with their mistakes: nulls counted as 0, a stop at the first empty window, bars that are never looked at again.
alter table public.data_agg_state
  add column is_mandatory boolean not null default false,
  add column agg_start_utc timestamptz not null default '2025-07-01 00:00:00+00',
  add column enabled boolean not null default true,
  add column task_priority integer not null default 100;

create function public._set_updated_at() returns trigger language plpgsql as $$ begin new.updated_at := now(); return new; end $$;
create trigger trg_agg_state_updated_at before update on public.data_agg_state
  for each row execute function public._set_updated_at();

create function public._upsert_derived_bar(
  p_symbol text, p_tf text, p_ts timestamptz, p_open double precision, p_high double precision, p_low double precision,
  p_close double precision, p_vol double precision, p_vwap double precision, p_trade_count int, p_source text, p_source_tf text,
  p_source_candles int, p_expected_candles int, p_quality_score int, p_derivation_version int, p_raw jsonb)
returns jsonb language plpgsql security definer set search_path = public as $$
declare
  was_inserted boolean;
begin
  insert into derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, source,
                                 source_timeframe, source_candles, expected_candles, quality_score, derivation_version, raw)
  values (p_symbol, p_tf, p_ts, p_open, p_high, p_low, p_close, p_vol, p_vwap, p_trade_count, p_source, p_source_tf,
          p_source_candles, p_expected_candles, p_quality_score, p_derivation_version, p_raw)
  on conflict (canonical_symbol, timeframe, ts_utc) where deleted_at is null do update
     set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
         vwap = excluded.vwap, trade_count = excluded.trade_count, source_candles = excluded.source_candles,
         quality_score = excluded.quality_score, derivation_version = excluded.derivation_version, raw = excluded.raw, updated_at = now()
  returning xmax = 0 into was_inserted;
  return jsonb_build_object('success', true, 'inserted', was_inserted);
end $$;

create function public.aggregate_1m_to_5m_window(
  p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz, p_derivation_version int default 1)
returns jsonb language plpgsql security definer set search_path = public as $$
declare
  b record;
  quality int;
begin
  select count(*)::int as cnt, (array_agg(open order by ts_utc))[1] as open, max(high) as high, min(low) as low,
         (array_agg(close order by ts_utc desc))[1] as close, sum(coalesce(vol, 0)) as vol,
         sum(coalesce(vwap, 0) * coalesce(vol, 0)) as weighted, sum(coalesce(trade_count, 0))::int as trades
    into b from data_bars
   where canonical_symbol = p_symbol and timeframe = '1m' and ts_utc >= p_from_utc and ts_utc < p_to_utc;
  quality := case when b.cnt >= 5 then 2 when b.cnt = 4 then 1 when b.cnt = 3 then 0 end;
  if quality is null then
    return jsonb_build_object('success', true, 'stored', false, 'reason', 'insufficient_source_bars', 'source_count', b.cnt);
  end if;
  perform _upsert_derived_bar(p_symbol, '5m', p_from_utc, b.open, b.high, b.low, b.close, b.vol,
    case when b.vol > 0 then b.weighted / b.vol end, b.trades, 'agg', '1m', b.cnt, 5, quality, p_derivation_version,
    jsonb_build_object('from', p_from_utc, 'to', p_to_utc, 'source', 'data_bars_only'));
  return jsonb_build_object('success', true, 'stored', true, 'source_count', b.cnt, 'quality_score', quality);
end $$;

create function public.aggregate_5m_to_1h_window(
  p_symbol text, p_from_utc timestamptz, p_to_utc timestamptz, p_derivation_version int default 1)
returns jsonb language plpgsql security definer set search_path = public as $$
declare
  b record;
  quality int;
begin
  select count(*)::int as cnt, (array_agg(open order by ts_utc))[1] as open, max(high) as high, min(low) as low,
         (array_agg(close order by ts_utc desc))[1] as close, sum(coalesce(vol, 0)) as vol,
         sum(coalesce(vwap, 0) * coalesce(vol, 0)) as weighted, sum(coalesce(trade_count, 0))::int as trades
    into b from derived_data_bars
   where canonical_symbol = p_symbol and timeframe = '5m' and deleted_at is null and ts_utc >= p_from_utc and ts_utc < p_to_utc;
  quality := case when b.cnt = 12 then 2 when b.cnt in (10, 11) then 1 when b.cnt in (8, 9) then 0 when b.cnt = 7 then -1 end;
  if quality is null then
    return jsonb_build_object('success', true, 'stored', false, 'reason', 'insufficient_source_bars', 'source_count', b.cnt);
  end if;
  perform _upsert_derived_bar(p_symbol, '1h', p_from_utc, b.open, b.high, b.low, b.close, b.vol,
    case when b.vol > 0 then b.weighted / b.vol end, b.trades, 'agg', '5m', b.cnt, 12, quality, p_derivation_version,
    jsonb_build_object('from', p_from_utc, 'to', p_to_utc, 'source', 'derived5m'));
  return jsonb_build_object('success', true, 'stored', true, 'source_count', b.cnt, 'quality_score', quality);
end $$;

create function public.agg_get_due_tasks(
  p_env_name text, p_now_utc timestamptz default now(), p_limit int default 20, p_running_stale_seconds int default 900)
returns table (canonical_symbol text, timeframe text, source_timeframe text, run_interval_minutes int,
  aggregation_delay_seconds int, last_agg_bar_ts_utc timestamptz, status text, hard_fail_streak int, task_priority int)
language plpgsql security definer set search_path = public as $$
#variable_conflict use_column
begin
  update data_agg_state set status = 'idle', running_started_at_utc = null,
         last_error = left(coalesce(last_error, '') || ' | stale_running_recovered', 2000)
   where status = 'running' and running_started_at_utc < p_now_utc - make_interval(secs => p_running_stale_seconds);
  return query
  select s.canonical_symbol, s.timeframe, s.source_timeframe, s.run_interval_minutes, s.aggregation_delay_seconds,
         s.last_agg_bar_ts_utc, s.status, s.hard_fail_streak, s.task_priority
    from data_agg_state s join core_asset_registry_all a on a.canonical_symbol = s.canonical_symbol
   where s.enabled and s.status = 'idle' and coalesce(s.next_run_at, p_now_utc) <= p_now_utc
     and case when upper(p_env_name) in ('DEV', 'TEST') then a.test_active else a.active end
   order by s.is_mandatory desc, s.timeframe, s.task_priority, s.last_successful_at_utc nulls first limit p_limit;
end $$;

create function public.agg_start(p_symbol text, p_tf text, p_now_utc timestamptz default now())
returns jsonb language plpgsql security definer set search_path = public as $$
declare
  s data_agg_state;
begin
  update data_agg_state set status = 'running', running_started_at_utc = p_now_utc, last_attempted_at_utc = p_now_utc
   where canonical_symbol = p_symbol and timeframe = p_tf and status = 'idle' returning * into s;
  if not found then
    return jsonb_build_object('success', false, 'error', 'not_idle_or_missing');
  end if;
  return jsonb_build_object('success', true, 'canonical_symbol', s.canonical_symbol, 'timeframe', s.timeframe,
    'source_timeframe', s.source_timeframe, 'run_interval_minutes', s.run_interval_minutes,
    'aggregation_delay_seconds', s.aggregation_delay_seconds, 'last_agg_bar_ts_utc', s.last_agg_bar_ts_utc);
end $$;

create function public.agg_bootstrap_cursor(p_symbol text, p_to_tf text, p_now_utc timestamptz default now())
returns timestamptz language sql security definer set search_path = public as $$
  select to_timestamp(floor(extract(epoch from agg_start_utc) / (run_interval_minutes * 60)) * run_interval_minutes * 60)
    from data_agg_state where canonical_symbol = p_symbol and timeframe = p_to_tf
$$;

create function public.catchup_aggregation_range(
  p_symbol text, p_to_tf text, p_start_cursor_utc timestamptz, p_max_windows int default 100, p_now_utc timestamptz default null,
  p_derivation_version int default 1, p_ignore_confirmation boolean default false)
returns jsonb language plpgsql security definer set search_path = public as $$
declare
  s data_agg_state;
  step interval;
  at timestamptz;
  w jsonb;
  processed int := 0;
  created int := 0;
  poor int := 0;
  skipped int := 0;
begin
  select * into s from data_agg_state where canonical_symbol = p_symbol and timeframe = p_to_tf;
  step := make_interval(mins => s.run_interval_minutes);
  at := greatest(p_start_cursor_utc, s.agg_start_utc);
  while processed < p_max_windows loop
    exit when not p_ignore_confirmation and p_now_utc < at + step + make_interval(secs => s.aggregation_delay_seconds);
    if p_to_tf = '5m' then
      w := aggregate_1m_to_5m_window(p_symbol, at, at + step, p_derivation_version);
    elsif p_to_tf = '1h' then
      w := aggregate_5m_to_1h_window(p_symbol, at, at + step, p_derivation_version);
    else
      raise exception 'Unsupported tf=%', p_to_tf;
    end if;
    if (w ->> 'source_count')::int = 0 then
      skipped := skipped + 1;
      exit;
    end if;
    created := created + (w ->> 'stored')::boolean::int;
    poor := poor + coalesce(((w ->> 'quality_score')::int <= 0)::int, 0);
    skipped := skipped + (not (w ->> 'stored')::boolean)::int;
    at := at + step;
    processed := processed + 1;
  end loop;
  return jsonb_build_object('success', true, 'windows_processed', processed, 'cursor_advanced_to', at, 'bars_created', created,
    'bars_quality_poor', poor, 'bars_skipped', skipped, 'continue', processed >= p_max_windows);
end $$;

create function public.agg_finish(
  p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamptz default null, p_stats jsonb default null,
  p_fail_kind text default null, p_error text default null, p_now_utc timestamptz default now(),
  p_auto_disable_hard_fail_threshold int default 3)
returns jsonb language plpgsql security definer set search_path = public as $$
begin
  update data_agg_state
     set status = case when p_success or p_fail_kind = 'transient' or hard_fail_streak + 1 < p_auto_disable_hard_fail_threshold then 'idle'
                       when is_mandatory then 'hard_failed' else 'disabled' end,
         hard_fail_streak = case when p_success then 0 when p_fail_kind = 'transient' then hard_fail_streak else hard_fail_streak + 1 end,
         last_agg_bar_ts_utc = case when p_success then coalesce(p_new_cursor_utc, last_agg_bar_ts_utc) else last_agg_bar_ts_utc end,
         last_successful_at_utc = case when p_success then p_now_utc else last_successful_at_utc end,
         next_run_at = p_now_utc + make_interval(mins => run_interval_minutes), running_started_at_utc = null,
         last_error = case when not p_success then left(p_error, 1900) end, total_runs = total_runs + 1,
         total_bars_created = total_bars_created + coalesce((p_stats ->> 'bars_created')::int, 0)
   where canonical_symbol = p_symbol and timeframe = p_tf;
  return jsonb_build_object('success', true);
end $$;

create function public.sync_agg_state_from_registry(
  p_env_name text default 'prod', p_agg_start_utc timestamptz default '2025-07-01 00:00:00+00')
returns jsonb language plpgsql security definer set search_path = public as $$
begin
  insert into data_agg_state (canonical_symbol, timeframe, source_timeframe, run_interval_minutes, aggregation_delay_seconds,
                              is_mandatory, agg_start_utc)
  select a.canonical_symbol, t.tf, '1m', t.minutes, 30, true, p_agg_start_utc
    from core_asset_registry_all a cross join (values ('5m', 5), ('1h', 60)) t (tf, minutes) where a.active
  on conflict (canonical_symbol, timeframe) do update
     set enabled = true, agg_start_utc = excluded.agg_start_utc, source_timeframe = '1m', is_mandatory = true;
  return jsonb_build_object('success', true);
end $$;

create function public.ops_runlog_start(p_run_id uuid, p_job_name text, p_trigger text, p_env_name text)
returns jsonb language sql security definer set search_path = public as $$
  insert into ops_runlog (run_id, job_name, trigger, env_name) values (p_run_id, p_job_name, p_trigger, p_env_name);
  select '{"success": true}'::jsonb
$$;
create function public.ops_runlog_checkpoint(p_run_id uuid, p_checkpoint text, p_details jsonb default '{}')
returns jsonb language sql security definer set search_path = public as $$
  update ops_runlog set checkpoints = checkpoints || jsonb_build_object(p_checkpoint, true) where run_id = p_run_id;
  select '{"success": true}'::jsonb
$$;
create function public.ops_runlog_finish(p_run_id uuid, p_status text, p_stats jsonb default '{}')
returns jsonb language sql security definer set search_path = public as $$
  update ops_runlog set status = p_status, stats = p_stats, finished_at = now() where run_id = p_run_id;
  select '{"success": true}'::jsonb
$$;
create function public.ops_runlog_prune(p_job_name text, p_trigger text, p_keep int default 10)
returns jsonb language sql security definer set search_path = public as $$
  delete from ops_runlog where id in (select id from ops_runlog where job_name = p_job_name and trigger = p_trigger
                                       order by started_at desc offset p_keep);
  select '{"success": true}'::jsonb
$$;

-- Its rights: closed to PUBLIC, while a Supabase project has granted to anon and authenticated by name.
revoke execute on all functions in schema public from public;
revoke all on table public.derived_data_bars, public.data_agg_state, public.ops_runlog from public, anon, authenticated;
alter table public.derived_data_bars enable row level security;
