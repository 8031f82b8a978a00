-- _agg_due: which tasks are due.
-- Called by: _agg_select. Needs: _agg_forward, tasks, dirty_ranges.

-- Every due task: with an eligible window, with touched windows, or one that tasks below it, due as well, will fill.
create function public._agg_due(
  p_env_name text, p_now_utc timestamptz, p_symbols text[], p_timeframes text[], p_except jsonb)
returns table (canonical_symbol text, timeframe text, minutes integer, waiting_since timestamptz)
language plpgsql stable set search_path = '' as $$
#variable_conflict use_column
begin
  return query
with recursive candidate as materialized (
  select t.*, s.last_attempted_at_utc, coalesce(s.next_run_at <= p_now_utc, true) as on_time,
         -- Touched windows wait for nothing but a back-off.
         s.next_run_at > p_now_utc and s.hard_fail_streak + s.transient_streak > 0 as backs_off
    from public.agg_tasks t
    join public.data_agg_state s on s.canonical_symbol = t.canonical_symbol and s.timeframe = t.timeframe
    join public.core_asset_registry_all a on a.canonical_symbol = t.canonical_symbol
    -- Asked once, not for every row.
   cross join (select public._agg_env_active(p_env_name, true, false) as active,
                      public._agg_env_active(p_env_name, false, true) as test) served
   where (a.active and served.active or a.test_active and served.test)
     and s.enabled and s.status in ('idle', 'hard_failed')
     and not (s.paused_at_utc is not null and coalesce(s.paused_until_utc > p_now_utc, true))
     and (p_symbols is null or t.canonical_symbol = any (p_symbols))
     and (p_timeframes is null or t.timeframe = any (p_timeframes))
     -- Here, before any time is computed from their rows.
     and (p_except is null or not p_except ? (s.canonical_symbol || '/' || s.timeframe))
), ready as (
  select array_agg(canonical_symbol) as symbols, array_agg(timeframe) as timeframes
    from candidate where on_time and cursor_utc + length <= p_now_utc
), own as materialized (
  select c.canonical_symbol, c.timeframe, f.bars[1].ts_utc + c.length as since
    -- The first window is all that is asked for. Reading up to a dozen is cheaper than finding out where the first one ends.
    from ready cross join lateral public._agg_forward(ready.symbols, ready.timeframes, p_now_utc, 12, false) f
    join candidate c on c.canonical_symbol = f.canonical_symbol and c.timeframe = f.timeframe
   where cardinality(f.bars) > 0
), touched as materialized (
  select c.canonical_symbol, c.timeframe, min(d.from_utc) as from_utc, min(d.logged_at) as since
    from public.agg_dirty_ranges d
    join candidate c on c.canonical_symbol = d.canonical_symbol and c.timeframe = d.timeframe
   where greatest(d.from_utc, c.first_window) < least(d.to_utc, c.cursor_utc) and not coalesce(c.backs_off, false)
   group by 1, 2
), root as materialized (
  select c.canonical_symbol, c.timeframe, c.base_timeframe, d.from_utc as touched_utc,
         least(o.since, d.since, p_now_utc) as since
    from candidate c
    left join own o on o.canonical_symbol = c.canonical_symbol and o.timeframe = c.timeframe
    left join touched d on d.canonical_symbol = c.canonical_symbol and d.timeframe = c.timeframe
   where o.since is not null or d.since is not null
), due as (
  select canonical_symbol, timeframe, touched_utc, since from root
  union
  -- Up the ladder: the next window with base rows has ended and they reach its end (or nothing more will come), or what
  -- the child rewrites lies in windows that are built already.
  select p.canonical_symbol, p.timeframe, case when d.touched_utc < p.cursor_utc then d.touched_utc end,
         least(filled.until_utc, p_now_utc)
    from due d
    join public.agg_timeframes child on child.timeframe = d.timeframe
    join candidate p on p.canonical_symbol = d.canonical_symbol and p.source_timeframe = d.timeframe and not p.source_is_base
    left join lateral (
      select date_bin(p.length, b.ts_utc, p.origin_utc) + p.length as until_utc from public.agg_source_bars b
       where p.on_time and p.cursor_utc + p.length <= p_now_utc
         and b.is_base and b.canonical_symbol = p.canonical_symbol and b.timeframe = p.base_timeframe
         and b.ts_utc >= p.cursor_utc and b.reject_reason is null
       order by b.ts_utc limit 1) filled on true
    left join lateral (
      select b.ts_utc from public.agg_source_bars b
       where filled.until_utc <= p_now_utc
         and b.is_base and b.canonical_symbol = p.canonical_symbol and b.timeframe = p.base_timeframe
         and b.reject_reason is null and b.ts_utc <= p_now_utc
       order by b.ts_utc desc limit 1) newest on true
   where not coalesce(p.backs_off, false)
     and (newest.ts_utc >= filled.until_utc - child.length
          or p_now_utc >= filled.until_utc + p.deadline
          -- Before its first window nothing is built that could be touched.
          or (d.touched_utc < p.cursor_utc and p.first_window < p.cursor_utc))
)
select c.canonical_symbol, c.timeframe, c.minutes,
       -- A time that can be subtracted, whatever stands in the row.
       greatest(case when c.last_attempted_at_utc <= p_now_utc then c.last_attempted_at_utc end, min(d.since), '1900-01-01 00:00:00+00')
  from due d join candidate c on c.canonical_symbol = d.canonical_symbol and c.timeframe = d.timeframe
 group by c.canonical_symbol, c.timeframe, c.minutes, c.last_attempted_at_utc;
end $$;
comment on function public._agg_due(text, timestamptz, text[], text[], jsonb) is
  'Due tasks and since when each of them waits; none of p_except, an object with SYMBOL/timeframe as keys.';
revoke execute on function public._agg_due(text, timestamptz, text[], text[], jsonb) from public, anon, authenticated, service_role;
