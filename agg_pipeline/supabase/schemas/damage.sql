-- agg_find_damage, agg_mend_cursors: what a predecessor left wrong: bars that a fresh computation would not give,
-- cursors at places where no catch-up puts them, tasks that nobody works on. Finding changes nothing; bars are mended
-- by agg_rebuild_range.
-- Called by: AggGateway.find_damage, mend_cursors (agg-pipeline repair, doctor). Needs: _agg_compute, _agg_held,
-- _agg_windows_of.

-- What is wrong with one stored bar (p_live) of a window that a fresh computation gives as p_fresh; null: nothing.
-- vwap and volume may differ in their last bits: another order of the same sum is no damage.
create function public._agg_damage_of(p_fresh public.agg_bar, p_live public.derived_data_bars)
returns text language sql immutable set search_path = '' as $$
  select case
    when p_live.id is null then case when p_fresh.quality_score is not null then 'missing' end
    when p_fresh.quality_score is null then 'surplus'
    when p_fresh.source_candles > coalesce(p_live.source_candles, 0) then 'half_built'
    when (p_fresh.open, p_fresh.high, p_fresh.low, p_fresh.close, p_fresh.is_partial, p_fresh.source_timeframe,
          p_fresh.source_candles, p_fresh.expected_candles, p_fresh.quality_score)
         is distinct from
         (p_live.open, p_live.high, p_live.low, p_live.close, p_live.is_partial, p_live.source_timeframe,
          p_live.source_candles, p_live.expected_candles, p_live.quality_score) then 'different'
    when p_fresh.trade_count is not distinct from p_live.trade_count
         and (p_fresh.vol is not distinct from p_live.vol
              or abs(p_fresh.vol - p_live.vol) <= 1e-12 * greatest(abs(p_fresh.vol), abs(p_live.vol)))
         and (p_fresh.vwap is not distinct from p_live.vwap
              or abs(p_fresh.vwap - p_live.vwap) <= 1e-12 * greatest(abs(p_fresh.vwap), abs(p_live.vwap))) then null
    else 'figures'
  end
$$;
comment on function public._agg_damage_of(public.agg_bar, public.derived_data_bars) is
  'missing, surplus, half_built, different, or figures (vwap, volume or trade count differ); null: the stored bar is what a fresh computation gives.';
revoke execute on function public._agg_damage_of(public.agg_bar, public.derived_data_bars) from public, anon, authenticated, service_role;

create function public.agg_find_damage(p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz)
returns jsonb language plpgsql stable security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set jit = off
as $$
declare
  max_windows constant integer := 5000;  -- in one call: about a second of work
  asked public.agg_range := public._agg_windows_of(p_symbol, p_tf, p_from_utc, p_to_utc);
  task public.agg_tasks;
  wanted_to_utc timestamptz;
  found jsonb;
begin
  select * into task from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf;
  asked.from_utc := greatest(asked.from_utc, task.first_window);
  asked.to_utc := greatest(asked.from_utc, least(asked.to_utc, task.cursor_utc));
  wanted_to_utc := asked.to_utc;
  asked.to_utc := coalesce((select h from public._agg_held(asked, max_windows + 1) h offset max_windows), asked.to_utc);

  with fresh as materialized (
    select f.ts_utc, f as bar from public._agg_compute(array[asked]) f
  ), live as materialized (
    select d.ts_utc, d as bar from public.derived_data_bars d
     where d.canonical_symbol = p_symbol and d.timeframe = p_tf and d.deleted_at is null
       and d.ts_utc >= asked.from_utc and d.ts_utc < asked.to_utc
  ), judged as (
    select coalesce(f.ts_utc, l.ts_utc) as ts_utc,
           case when l.ts_utc <> date_bin(task.length, l.ts_utc, task.origin_utc) then 'off_grid'
                else public._agg_damage_of(f.bar, l.bar) end as kind
      from fresh f full join live l on l.ts_utc = f.ts_utc
  ), named as (
    select j.ts_utc, case when j.kind <> 'figures' then j.kind
                          when j.kind is not null and exists (
                            select from public.agg_source_bars b
                             where b.is_base = task.source_is_base and b.canonical_symbol = p_symbol
                               and b.timeframe = task.source_timeframe and b.ts_utc >= j.ts_utc and b.ts_utc < j.ts_utc + task.length
                               and b.reject_reason is null and (b.vwap is null or b.vol is null or b.trade_count is null))
                            then 'null_as_zero'
                          when j.kind is not null then 'different' end as kind
      from judged j
  ), counted as (
    select kind, count(*) as bars, min(ts_utc) as first_utc, max(ts_utc) as last_utc from named where kind is not null group by kind
  )
  select jsonb_build_object(
           'judged', (select count(*) from judged),
           'kinds', coalesce(jsonb_object_agg(kind, bars), '{}'),
           'from_utc', date_bin(task.length, min(first_utc), task.origin_utc),
           'to_utc', date_bin(task.length, max(last_utc), task.origin_utc) + task.length)
    into found from counted;
  return found || jsonb_build_object('continue', asked.to_utc < wanted_to_utc, 'next_from_utc', asked.to_utc);
end $$;
comment on function public.agg_find_damage(text, text, timestamptz, timestamptz) is
  'Counts built windows of a task whose bar is not what a fresh computation gives, by kind: missing, surplus, half_built, null_as_zero, different, off_grid; all of them lie in [from_utc, to_utc). At most 5000 windows a call; "continue": call again from next_from_utc. AG002: no such task, AG003: no range.';
revoke execute on function public.agg_find_damage(text, text, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_find_damage(text, text, timestamptz, timestamptz) to service_role;

-- Cursors that no catch-up would leave so, with where they belong and how many windows lie between them and the data.
-- future: later than the window of the newest base bar (the source was loaded after the cursor was set, or a row is gone).
-- off_grid: a start that was not aligned. impossible: cursor, start or next run is no time between 1900 and 2200.
-- frozen: at an empty window although data goes on; a catch-up passes it by itself.
create function public._agg_bad_cursors(p_now_utc timestamptz)
returns table (canonical_symbol text, timeframe text, kind text, from_utc timestamptz, to_utc timestamptz, windows integer)
language sql stable set search_path = '' set timezone = 'UTC' as $$
  select t.canonical_symbol, t.timeframe, judged.kind, t.stored_cursor_utc,
         case judged.kind when 'future' then home.window_utc when 'off_grid' then t.cursor_utc else t.stored_cursor_utc end,
         greatest(0, extract(epoch from home.window_utc - t.cursor_utc) / 60 / t.minutes)::integer
    from public.agg_tasks t
    -- A task of the base timeframe or below has nothing to be built from, wherever its cursor stands.
    join public.agg_timeframes base on base.timeframe = t.base_timeframe and base.minutes < t.minutes
    left join lateral (
      select b.ts_utc from public.agg_source_bars b
       where b.is_base and b.canonical_symbol = t.canonical_symbol and b.timeframe = t.base_timeframe
         and b.reject_reason is null and b.ts_utc <= p_now_utc
       order by b.ts_utc desc limit 1) newest on true
   cross join lateral (
      select case when newest.ts_utc >= t.first_window then date_bin(t.length, newest.ts_utc, t.origin_utc) end as window_utc) home
    left join public.agg_tasks source on not t.source_is_base
         and source.canonical_symbol = t.canonical_symbol and source.timeframe = t.source_timeframe and source.is_possible
   cross join lateral (
      select case
        when t.cursor_utc > coalesce(home.window_utc + t.length, t.first_window) then 'future'
        when t.stored_cursor_utc >= t.first_window and t.stored_cursor_utc <> t.cursor_utc then 'off_grid'
        when home.window_utc > t.cursor_utc
             and not exists (select from public.agg_source_bars b
                              where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
                                and b.timeframe = t.source_timeframe and b.reject_reason is null
                                and b.ts_utc >= t.cursor_utc and b.ts_utc < t.cursor_utc + t.length)
             -- Empty because its source has yet to be built is no stall.
             and (t.source_is_base or source.cursor_utc >= t.cursor_utc + t.length
                  or not exists (select from public.agg_source_bars b
                                  where b.is_base and b.canonical_symbol = t.canonical_symbol
                                    and b.timeframe = t.base_timeframe and b.reject_reason is null
                                    and b.ts_utc >= t.cursor_utc and b.ts_utc < t.cursor_utc + t.length)) then 'frozen'
      end as kind) judged
   where t.stored_cursor_utc is not null and judged.kind is not null
     and t.is_possible
  union all
  -- Set back to nothing, the first window is the next: bars that are right stay as they are.
  select t.canonical_symbol, t.timeframe, 'impossible', null,
         case when t.stored_cursor_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' then t.stored_cursor_utc end, null
    from public.agg_tasks t where not t.is_possible
   order by 1, 2
$$;
comment on function public._agg_bad_cursors(timestamptz) is
  'Cursors that are future, off_grid, frozen or impossible, where they belong (to_utc), and how many windows they are behind the data.';
revoke execute on function public._agg_bad_cursors(timestamptz) from public, anon, authenticated, service_role;

-- Running without an expiry is what functions older than ours leave; after a quarter of an hour nobody is behind it.
create function public._agg_is_stuck(p_state public.data_agg_state, p_now_utc timestamptz)
returns boolean language sql immutable set search_path = '' as $$
  select p_state.status = 'running' and p_state.lease_expires_at is null
         and coalesce(p_state.running_started_at_utc, '-infinity') < p_now_utc - interval '15 minutes'
$$;
comment on function public._agg_is_stuck(public.data_agg_state, timestamptz) is
  'True if a worker of older functions left the task running.';
revoke execute on function public._agg_is_stuck(public.data_agg_state, timestamptz) from public, anon, authenticated, service_role;

create function public.agg_mend_cursors(
  p_symbols text[] default null, p_dry_run boolean default true, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set jit = off set lock_timeout = '4s'
as $$
declare
  dry_run constant boolean := coalesce(p_dry_run, true);
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  bad jsonb;
begin
  if not dry_run then
    perform from public.data_agg_state s where p_symbols is null or s.canonical_symbol = any (p_symbols)
      order by s.canonical_symbol, s.timeframe for update;
  end if;
  -- A statement of its own, after the locks. What is leased is left to its holder, who moves the cursor himself.
  select coalesce(jsonb_agg(to_jsonb(c) order by c.canonical_symbol, c.timeframe, c.kind), '[]') into bad from (
    select b.*, case when s.lease_expires_at is null then s.status = 'running' and not public._agg_is_stuck(s, now_utc)
                     else s.lease_expires_at > now_utc end as leased
      from public._agg_bad_cursors(now_utc) b
      join public.data_agg_state s on s.canonical_symbol = b.canonical_symbol and s.timeframe = b.timeframe
    union all
    select s.canonical_symbol, s.timeframe, 'stuck', s.last_agg_bar_ts_utc, s.last_agg_bar_ts_utc, null, false
      from public.data_agg_state s where public._agg_is_stuck(s, now_utc)) c
   where p_symbols is null or c.canonical_symbol = any (p_symbols);
  if not dry_run then
    update public.data_agg_state s set status = 'idle', status_before = null, running_started_at_utc = null, next_run_at = null
     where public._agg_is_stuck(s, now_utc) and (p_symbols is null or s.canonical_symbol = any (p_symbols));
    update public.data_agg_state s set last_agg_bar_ts_utc = c.to_utc, next_run_at = null
      from jsonb_to_recordset(bad) c (canonical_symbol text, timeframe text, kind text, to_utc timestamptz, leased boolean)
     where s.canonical_symbol = c.canonical_symbol and s.timeframe = c.timeframe and c.kind in ('future', 'off_grid', 'impossible') and not c.leased;
  end if;
  return bad;
end $$;
comment on function public.agg_mend_cursors(text[], boolean, timestamptz) is
  'Lists (p_dry_run, the default) or mends: frees tasks that an older worker left running (stuck), sets cursors that are in the future of their data to the window of the newest base bar, those off the grid onto it, and impossible ones to none, so that the task begins again at its first window. frozen ones are listed only: the next tick passes them.';
revoke execute on function public.agg_mend_cursors(text[], boolean, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_mend_cursors(text[], boolean, timestamptz) to service_role;
