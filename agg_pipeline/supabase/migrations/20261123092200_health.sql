-- health: what an operator looks at, and the contract that the package checks before it runs.
-- Called by: AggGateway.health, bar_summary, contract. Needs: tasks, source_bars. Repeat: yes.
-- Undo: drop view public.v_aggregation_health; drop function public.agg_bar_summary, public.agg_contract;
set local lock_timeout = '10s';

create or replace view public.v_aggregation_health with (security_invoker = true) as
select s.canonical_symbol, s.timeframe, s.source_timeframe, s.status, s.enabled, s.is_mandatory, s.task_priority,
       s.last_agg_bar_ts_utc as cursor_utc, t.first_window as first_window_utc, newest.ts_utc as newest_source_utc,
       -- Whole windows that the source has begun after and the cursor has not passed.
       case when newest.ts_utc is not null then greatest(0, (extract(epoch from
         date_bin(t.length, newest.ts_utc, t.origin_utc) - t.cursor_utc) / 60 / t.minutes)::integer) end as lag_windows,
       s.last_successful_at_utc, s.last_attempted_at_utc, s.next_run_at, s.hard_fail_streak, s.transient_streak, s.stale_streak,
       s.last_error, s.total_runs, s.total_bars_created, s.total_bars_quality_poor, s.paused_at_utc, s.paused_until_utc,
       s.pause_reason, s.lease_owner, s.lease_expires_at
  from public.data_agg_state s
  join public.agg_tasks t on t.canonical_symbol = s.canonical_symbol and t.timeframe = s.timeframe
  left join lateral (
    select b.ts_utc from public.agg_source_bars b
     where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
       and b.timeframe = t.source_timeframe and b.reject_reason is null
     order by b.ts_utc desc limit 1) newest on true;
revoke all on table public.v_aggregation_health from public, anon, authenticated, service_role;
comment on view public.v_aggregation_health is 'One row per task: status, cursor, newest source bar, lag in windows, failures.';

-- One JSON array: of a set of rows a hosted REST API returns the first thousand and says nothing.
create or replace function public.agg_health(p_symbols text[] default null)
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off as $$
  select coalesce(jsonb_agg(to_jsonb(h) order by h.canonical_symbol, t.minutes), '[]')
    from public.v_aggregation_health h join public.agg_timeframes t on t.timeframe = h.timeframe
   where p_symbols is null or h.canonical_symbol = any (p_symbols)
$$;
comment on function public.agg_health(text[]) is 'Array of the rows of v_aggregation_health, by symbol and length of timeframe.';

create or replace function public.agg_bar_summary(p_symbols text[] default null)
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(to_jsonb(counted) - 'minutes' order by counted.canonical_symbol, counted.minutes), '[]') from (
    select d.canonical_symbol, d.timeframe, t.minutes, count(*) as bars, min(d.ts_utc) as first_utc, max(d.ts_utc) as last_utc,
           count(*) filter (where d.quality_score = 2) as quality_2, count(*) filter (where d.quality_score = 1) as quality_1,
           count(*) filter (where d.quality_score = 0) as quality_0,
           count(*) filter (where d.quality_score = -1) as quality_minus_1,
           count(*) filter (where d.revision > 1) as revised
      from public.derived_data_bars d join public.agg_timeframes t on t.timeframe = d.timeframe
     where d.deleted_at is null and (p_symbols is null or d.canonical_symbol = any (p_symbols))
     group by d.canonical_symbol, d.timeframe, t.minutes) counted
$$;
comment on function public.agg_bar_summary(text[]) is 'Array: live derived bars counted per symbol, timeframe and quality score.';

-- Bumped when a function that the package calls changes what it takes or gives.
-- Stable, though it is a constant: an immutable call is computed while planning, and PostgREST keeps plans, so that whoever
-- comes next on the connection gets the answer without a check of his rights.
create or replace function public.agg_contract() returns integer language sql stable set search_path = '' as $$ select 1 $$;
comment on function public.agg_contract() is 'Version of the functions that the package calls.';

revoke execute on function public.agg_health(text[]), public.agg_bar_summary(text[]), public.agg_contract()
  from public, anon, authenticated;
grant execute on function public.agg_health(text[]), public.agg_bar_summary(text[]), public.agg_contract() to service_role;
