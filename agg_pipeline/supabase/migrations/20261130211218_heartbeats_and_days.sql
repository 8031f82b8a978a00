-- heartbeats and days: _agg_log_dirty, _agg_store, agg_contract, agg_forget_touched_days, agg_touched_days, ops_heartbeat, ops_heartbeats_of, ops_runlog_expire.
-- Written by `make migration` from supabase/schemas, where the reasons are. Needs: all migrations before it.
-- Repeat: yes. Undo: the same objects as the version before has them.
set local lock_timeout = '10s';

create table if not exists public.agg_touched_days (
  id bigint generated always as identity primary key,
  timeframe text not null,
  day date not null
);
create index if not exists agg_touched_days_day_idx on public.agg_touched_days (timeframe, day);
alter table public.agg_touched_days enable row level security;
revoke all on table public.agg_touched_days from public, anon, authenticated, service_role;
comment on table public.agg_touched_days is
  'Days (UTC, by the start of the window) whose bars of a timeframe were created, revised or retired, until a run has reported them.';

create table if not exists public.ops_heartbeats (
  run_id uuid primary key,
  env_name text not null,
  beat_at timestamptz not null
);
alter table public.ops_heartbeats enable row level security;
revoke all on table public.ops_heartbeats from public, anon, authenticated, service_role;
comment on table public.ops_heartbeats is 'One row per run whose process lives, or died without saying so; beat_at is its newest sign of life.';

CREATE OR REPLACE FUNCTION public.ops_heartbeat(p_run_id uuid, p_env_name text, p_ended boolean DEFAULT false)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
begin
  if p_ended then
    delete from public.ops_heartbeats h where h.run_id = p_run_id;
  else
    insert into public.ops_heartbeats as h (run_id, env_name, beat_at) values (p_run_id, upper(p_env_name), clock_timestamp())
    on conflict (run_id) do update set beat_at = excluded.beat_at where h.beat_at < excluded.beat_at;
  end if;
  return jsonb_build_object('success', true);
end $function$;

comment on function public.ops_heartbeat(uuid, text, boolean) is 'A sign of life of a run; p_ended: its process ends, so that none is expected any more.';
revoke all on function public.ops_heartbeat(uuid, text, boolean) from public, anon, authenticated, service_role;
grant execute on function public.ops_heartbeat(uuid, text, boolean) to service_role;
CREATE OR REPLACE FUNCTION public.ops_heartbeats_of(p_env_name text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select coalesce(jsonb_object_agg(h.run_id, extract(epoch from clock_timestamp() - h.beat_at)), '{}')
    from public.ops_heartbeats h where h.env_name = upper(p_env_name)
$function$;

comment on function public.ops_heartbeats_of(text) is 'JSON {run id: seconds since its newest sign of life} of the runs of an environment.';
revoke all on function public.ops_heartbeats_of(text) from public, anon, authenticated, service_role;
grant execute on function public.ops_heartbeats_of(text) to service_role;
CREATE OR REPLACE FUNCTION public._agg_log_dirty()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  seen integer;
  moved public.agg_range[];
begin
  if tg_op = 'TRUNCATE' then  -- names no rows: all that the tasks have built is in doubt
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select canonical_symbol, timeframe, agg_start_utc, last_agg_bar_ts_utc
      from public.data_agg_state where agg_start_utc < last_agg_bar_ts_utc;
    return null;
  end if;
  -- An upsert fires the triggers of insert and update, one of them mostly without rows, and many ingesters write row by
  -- row: there, what follows would cost more than all else that they do.
  seen := (select count(*) from (select from changed limit 2) first_two);
  if seen = 0 then
    return null;
  end if;
  -- An update may have moved rows out of windows: mostly none.
  if tg_op = 'UPDATE' then
    moved := array(select (b.canonical_symbol, b.timeframe, b.ts_utc, null)::public.agg_range
                     from (select canonical_symbol, timeframe, ts_utc from old_rows
                           except
                           select canonical_symbol, timeframe, ts_utc from changed) b);
  end if;
  -- Rows outside of the centuries that agg_source_bars takes are in no window. Their times may break date_bin, and with it
  -- the whole statement of the ingester.
  if seen = 1 and coalesce(cardinality(moved), 0) = 0 then  -- one window of each consumer: no runs to look for
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select b.canonical_symbol, t.timeframe, w.from_utc, w.from_utc + t.length
      from changed b
      join public.agg_timeframes t on t.source_timeframe = b.timeframe
     cross join lateral (select date_bin(t.length, b.ts_utc, t.origin_utc) as from_utc offset 0) w
     where b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00';
    return null;
  end if;
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
  select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
    from (select w.canonical_symbol, w.timeframe, range_agg(tstzrange(w.from_utc, w.from_utc + w.length)) as runs
            from (select b.canonical_symbol, t.timeframe, t.length, date_bin(t.length, b.ts_utc, t.origin_utc) as from_utc
                    from (select canonical_symbol, timeframe, ts_utc from changed
                          union all
                          select m.canonical_symbol, m.timeframe, m.from_utc from unnest(moved) m) b
                    join public.agg_timeframes t on t.source_timeframe = b.timeframe
                   where b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00'
                  offset 0) w  -- so that date_bin is computed once a row
           group by 1, 2) touched, unnest(touched.runs) run;
  return null;
end $function$;

CREATE OR REPLACE FUNCTION public.agg_touched_days(p_limit integer DEFAULT 1000)
 RETURNS jsonb
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO ''
AS $function$
  select jsonb_build_object(
           'through_id', coalesce(max(t.id), 0),
           'days', coalesce(jsonb_agg(distinct jsonb_build_object('timeframe', t.timeframe, 'day', t.day)), '[]'))
    from (select * from public.agg_touched_days order by id limit p_limit) t
$function$;

comment on function public.agg_touched_days(integer) is 'JSON {through_id, days: [{timeframe, day}, ...]}: the first p_limit days whose bars changed and that were not reported; through_id is for agg_forget_touched_days.';
revoke all on function public.agg_touched_days(integer) from public, anon, authenticated, service_role;
grant execute on function public.agg_touched_days(integer) to service_role;
CREATE OR REPLACE FUNCTION public.agg_forget_touched_days(p_through_id bigint)
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  deleted integer;
begin
  delete from public.agg_touched_days t where t.id <= p_through_id;
  get diagnostics deleted = row_count;
  return jsonb_build_object('success', true, 'deleted', deleted);
end $function$;

comment on function public.agg_forget_touched_days(bigint) is 'Deletes the days up to p_through_id, after they were reported. Repeating it changes nothing.';
revoke all on function public.agg_forget_touched_days(bigint) from public, anon, authenticated, service_role;
grant execute on function public.agg_forget_touched_days(bigint) to service_role;
CREATE OR REPLACE FUNCTION public._agg_store(p_ranges public.agg_range[], p_bars public.agg_bar[], p_derivation_version integer, p_restamp boolean DEFAULT false)
 RETURNS TABLE(canonical_symbol text, timeframe text, windows integer, created integer, revised integer, retired integer, unchanged integer, poor integer, skipped integer, rejected integer)
 LANGUAGE plpgsql
 SET search_path TO ''
 SET "TimeZone" TO 'UTC'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
#variable_conflict use_column
declare
  -- Not now(): a transaction that began earlier may get its turn later, and its rows must not be older than those it ends.
  stamp constant timestamptz := clock_timestamp();
  -- Seldom, and asked once: else every new bar looks for an earlier revision of its own.
  any_retired constant boolean := exists (
    select from unnest(p_ranges) r
     cross join lateral (
        select from public.derived_data_bars
         where canonical_symbol = r.canonical_symbol and timeframe = r.timeframe
           and ts_utc >= r.from_utc and ts_utc < r.to_utc and deleted_at is not null
         limit 1) retired);
begin
  return query
  with fresh as materialized (
    select * from unnest(p_bars)
  ), live as materialized (
    -- offset 0: from each range into the index, whatever the planner believes of a table that was empty when it looked.
    select d.* from unnest(p_ranges) r
     cross join lateral (
        select * from public.derived_data_bars
         where canonical_symbol = r.canonical_symbol and timeframe = r.timeframe
           and ts_utc >= r.from_utc and ts_utc < r.to_utc and deleted_at is null
        offset 0) d
  ), verdict as materialized (
    select coalesce(f.canonical_symbol, l.canonical_symbol) as symbol, coalesce(f.timeframe, l.timeframe) as tf,
           coalesce(f.ts_utc, l.ts_utc)::date as day, f.*,
           l.id as live_id, l.revision as live_revision, l.derivation_version as live_version,
           case
             when f.quality_score is null and l.id is null then 'absent'
             when f.quality_score is null then 'retired'
             when l.id is null then 'created'
             when (f.open, f.high, f.low, f.close, f.vol, f.vwap, f.trade_count, f.is_partial, f.source_timeframe,
                   f.source_candles, f.expected_candles, f.quality_score, nullif(f.source_rejected, 0), f.rejected,
                   nullif(f.off_session, 0))
                  is distinct from
                  (l.open, l.high, l.low, l.close, l.vol, l.vwap, l.trade_count::bigint, l.is_partial, l.source_timeframe,
                   l.source_candles, l.expected_candles, l.quality_score, (l.raw -> 'rejected_count')::integer,
                   l.raw -> 'rejected', (l.raw -> 'off_session')::integer) then 'revised'
             when p_restamp and l.derivation_version <> p_derivation_version then 'revised'
             else 'unchanged'
           end as outcome
      from fresh f
      full join live l on l.canonical_symbol = f.canonical_symbol and l.timeframe = f.timeframe and l.ts_utc = f.ts_utc
  ), closed as (
    update public.derived_data_bars d set deleted_at = stamp
     where d.id = any (array(select v.live_id from verdict v where v.outcome in ('revised', 'retired')))
    returning 1
  ), written as (
    insert into public.derived_data_bars (
      canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial, source,
      ingested_at, source_timeframe, source_candles, expected_candles, quality_score, derivation_version, revision,
      raw, created_at, updated_at)
    select v.symbol, v.tf, v.ts_utc, v.open, v.high, v.low, v.close, v.vol, v.vwap, v.trade_count::integer, v.is_partial, 'agg',
           stamp, v.source_timeframe, v.source_candles, v.expected_candles, v.quality_score,
           coalesce(p_derivation_version, v.live_version, last.derivation_version, 1),
           1 + coalesce(v.live_revision, last.revision, 0),
           case when v.source_rejected > 0 or v.off_session > 0
                then origin.raw || jsonb_strip_nulls(jsonb_build_object(
                       'rejected_count', nullif(v.source_rejected, 0), 'rejected', v.rejected, 'off_session', nullif(v.off_session, 0)))
                else origin.raw end,
           stamp, stamp
      from verdict v
     cross join lateral (
        select jsonb_build_object('source_timeframe', v.source_timeframe, 'from', v.ts_utc, 'to', v.to_utc) as raw) origin
      left join lateral (
        select old.revision, old.derivation_version from public.derived_data_bars old
         where any_retired and v.live_id is null and old.canonical_symbol = v.symbol and old.timeframe = v.tf
           and old.ts_utc = v.ts_utc and old.deleted_at is not null
         order by old.canonical_symbol desc, old.timeframe desc, old.ts_utc desc, old.revision desc limit 1) last on true
     -- Counting "closed" first makes the insert wait for the update: the unique index must have let the old row go.
     where v.outcome in ('created', 'revised') and (select count(*) from closed) >= 0
    returning 1
  ), touched as (
    insert into public.agg_touched_days (timeframe, day)
    select distinct v.tf, v.day from verdict v
     where v.outcome in ('created', 'revised', 'retired')
       and not exists (select from public.agg_touched_days t where t.timeframe = v.tf and t.day = v.day)
  )
  select v.symbol, v.tf, count(*)::integer,
         (count(*) filter (where v.outcome = 'created'))::integer,
         (count(*) filter (where v.outcome = 'revised'))::integer,
         (count(*) filter (where v.outcome = 'retired'))::integer,
         (count(*) filter (where v.outcome = 'unchanged'))::integer,
         (count(*) filter (where v.outcome in ('created', 'revised') and v.quality_score <= 0))::integer,
         (count(*) filter (where v.quality_score is null and v.ts_utc is not null))::integer,
         coalesce(sum(v.source_rejected), 0)::integer
    from verdict v
   group by 1, 2
  having (select count(*) from written) >= 0;
end $function$;

CREATE OR REPLACE FUNCTION public.ops_runlog_expire(p_job_name text, p_env_name text, p_keep_days integer, p_limit integer DEFAULT 10000, p_now_utc timestamp with time zone DEFAULT now())
 RETURNS jsonb
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  abandoned integer;
  deleted integer;
begin
  if coalesce(p_keep_days, 0) < 1 then
    raise exception 'p_keep_days is %, but at least one day of runs is kept', p_keep_days using errcode = 'AG003',
      hint = 'Pass the age in days from which on rows go.';
  end if;
  -- No run lasts a day: its process died where nobody saw it.
  update public.ops_runlog set status = 'failed', finished_at = now_utc, stats = stats || '{"error": "the run never said how it ended"}'
   where job_name = p_job_name and upper(env_name) = upper(p_env_name) and status = 'running'
     and started_at < now_utc - interval '1 day';
  get diagnostics abandoned = row_count;
  delete from public.ops_runlog r using (
    select id from public.ops_runlog
     where job_name = p_job_name and upper(env_name) = upper(p_env_name) and status <> 'running'
       and started_at < now_utc - make_interval(days => p_keep_days)
     order by started_at limit p_limit) old
   where r.id = old.id;
  get diagnostics deleted = row_count;
  delete from public.ops_heartbeats where env_name = upper(p_env_name) and beat_at < now_utc - interval '1 day';
  return jsonb_build_object('success', true, 'deleted', deleted, 'abandoned', abandoned);
end $function$;

CREATE OR REPLACE FUNCTION public.agg_contract()
 RETURNS integer
 LANGUAGE sql
 STABLE
 SET search_path TO ''
AS $function$ select 4 $function$;

comment on table public.agg_touched_days is 'Days (UTC, by the start of the window) whose bars of a timeframe were created, revised or retired, until a run has reported them.';
comment on table public.ops_heartbeats is 'One row per run whose process lives, or died without saying so; beat_at is its newest sign of life.';
revoke all on sequence public.agg_touched_days_id_seq from public, anon, authenticated, service_role;
grant select on sequence public.agg_touched_days_id_seq to service_role;
grant update on sequence public.agg_touched_days_id_seq to service_role;
grant usage on sequence public.agg_touched_days_id_seq to service_role;
notify pgrst, 'reload schema';
