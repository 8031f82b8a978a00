-- _agg_forward: how far each task may go now, and the bars on the way. The only place that decides when a window is
-- computed (complete, passed by, deadline, level gate, gaps).
-- Called by: _agg_catch_up, and _agg_due with max_windows 1. Needs: _agg_compute.

-- Is there anything before p_until that a task, or a task below it, has yet to compute?
create function public._agg_pending(p_symbol text, p_tf text, p_until_utc timestamptz)
returns boolean language plpgsql stable set search_path = '' as $$
declare
  task public.agg_tasks;
begin
  select * into task from public.agg_tasks where canonical_symbol = p_symbol and timeframe = p_tf;
  if not found or task.cursor_utc >= p_until_utc then
    return false;
  end if;
  if exists (select from public.agg_source_bars b
              where b.is_base = task.source_is_base and b.canonical_symbol = p_symbol
                and b.timeframe = task.source_timeframe and b.ts_utc >= task.cursor_utc and b.ts_utc < p_until_utc
                and b.reject_reason is null) then
    return true;
  end if;
  return not task.source_is_base and public._agg_pending(p_symbol, task.source_timeframe, p_until_utc);
end $$;
comment on function public._agg_pending(text, text, timestamptz) is
  'True if valid source rows before p_until_utc wait for this task or for one that it is built from.';
revoke execute on function public._agg_pending(text, text, timestamptz) from public, anon, authenticated, service_role;

create function public._agg_forward(
  p_symbols text[], p_timeframes text[], p_now_utc timestamptz, p_max_windows integer, p_ignore_confirmation boolean)
returns setof public.agg_frontier language plpgsql stable set search_path = '' as $$
begin
  return query
with task as materialized (
  select t.*, newest.ts_utc as newest_utc, source.cursor_utc as source_cursor_utc,
         -- Windows from here on have not ended, hold no source yet, or are more than this call may read.
         least(date_bin(t.length, p_now_utc, t.origin_utc), date_bin(t.length, newest.ts_utc, t.origin_utc) + t.length,
               budget.until_utc) as horizon
    from unnest(p_symbols, p_timeframes) as asked (canonical_symbol, timeframe)
    join public.agg_tasks t on t.canonical_symbol = asked.canonical_symbol and t.timeframe = asked.timeframe
   cross join lateral (
      select b.ts_utc from public.agg_source_bars b
       where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
         and b.timeframe = t.source_timeframe and b.ts_utc >= t.cursor_utc and b.reject_reason is null
         and b.ts_utc <= p_now_utc  -- a bar from the future passes nothing by
       order by b.ts_utc desc limit 1) newest
    -- p_max_windows windows hold at most this many rows; beyond them nothing needs to be read now. Nobody looks for that
    -- place who has no more windows before him; who does, counts rows in the index, past the view and its rules.
    left join lateral (
      select greatest(date_bin(t.length, beyond.ts_utc, t.origin_utc),
                      date_bin(t.length, first.ts_utc, t.origin_utc) + t.length) as until_utc
        from (select case
                when newest.ts_utc < t.cursor_utc + p_max_windows * t.length then null
                when t.source_is_base then
                  (select b.ts_utc from public.data_bars b
                    where b.canonical_symbol = t.canonical_symbol and b.timeframe = t.source_timeframe and b.ts_utc >= t.cursor_utc
                    order by b.ts_utc limit 1 offset p_max_windows * t.expected_candles)
                else
                  (select b.ts_utc from public.derived_data_bars b
                    where b.canonical_symbol = t.canonical_symbol and b.timeframe = t.source_timeframe and b.ts_utc >= t.cursor_utc
                      and b.deleted_at is null
                    order by b.ts_utc limit 1 offset p_max_windows * t.expected_candles)
                end as ts_utc offset 0) beyond
       cross join lateral (
              select b.ts_utc from public.agg_source_bars b
               where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
                 and b.timeframe = t.source_timeframe and b.ts_utc >= t.cursor_utc and beyond.ts_utc is not null
               order by b.ts_utc limit 1) first) budget on true
    left join lateral (
      select s.cursor_utc from public.agg_tasks s
       where not t.source_is_base and s.canonical_symbol = t.canonical_symbol and s.timeframe = t.source_timeframe
      offset 0) source on true
), judged as (
  select t.canonical_symbol, t.timeframe, bar, bar.ts_utc as starts,
         bar.source_candles - bar.off_session >= bar.expected_candles
         or ((p_ignore_confirmation
              or p_now_utc >= bar.ts_utc + t.length + t.deadline
              or (t.newest_utc >= bar.ts_utc + t.length and p_now_utc >= bar.ts_utc + t.length + t.delay))
             -- The level gate: an incomplete window waits until its source task can add nothing more.
             and (t.source_cursor_utc is null
                  or t.source_cursor_utc >= bar.ts_utc + t.length
                  or ((p_ignore_confirmation or p_now_utc >= bar.ts_utc + t.length + t.deadline)
                      and not public._agg_pending(t.canonical_symbol, t.source_timeframe, bar.ts_utc + t.length))))
           as eligible,
         -- Empty windows before this one are passed by when the last of them is.
         lag(bar.ts_utc + t.length, 1, t.cursor_utc) over earlier = bar.ts_utc
         or p_ignore_confirmation or p_now_utc >= bar.ts_utc + t.delay as reachable,
         row_number() over earlier as nth
    from (select array_agg((canonical_symbol, timeframe, cursor_utc, horizon)::public.agg_range) as ranges
            from task where cursor_utc < horizon) work
   cross join lateral public._agg_compute(work.ranges) bar
    join task t on t.canonical_symbol = bar.canonical_symbol and t.timeframe = bar.timeframe
  window earlier as (partition by t.canonical_symbol, t.timeframe order by bar.ts_utc)
), passed as materialized (
  select *, (bars[cardinality(bars)]).to_utc as passed_utc
    from (select canonical_symbol, timeframe, min(starts) filter (where stops) as stop_utc,
                 coalesce(bool_or(eligible and reachable and nth = p_max_windows + 1), false) as over_budget,
                 (array_agg(bar order by starts))[:coalesce(min(nth) filter (where stops) - 1, count(*))] as bars
            from (select *, (eligible and reachable and nth <= p_max_windows) is not true as stops from judged) j
           group by 1, 2) upto
), frontier as materialized (  -- or next_utc is looked up wherever it is named
  select t.*, p.over_budget, p.bars, p.stop_utc,
         coalesce(p.passed_utc, t.cursor_utc) as passed_utc,
         -- The window that holds the next source row: what lies before it is a gap.
         coalesce(p.stop_utc, (select date_bin(t.length, b.ts_utc, t.origin_utc) from public.agg_source_bars b
                                where b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol
                                  and b.timeframe = t.source_timeframe and b.ts_utc >= t.horizon
                                  and b.ts_utc <= t.newest_utc and t.horizon <= t.newest_utc
                                order by b.ts_utc limit 1)) as next_utc
    from task t left join passed p on p.canonical_symbol = t.canonical_symbol and p.timeframe = t.timeframe
)
select f.canonical_symbol, f.timeframe, f.cursor_utc,
       greatest(f.passed_utc, case when f.next_utc is not null then
         least(f.next_utc,
               date_bin(f.length, p_now_utc - case when p_ignore_confirmation then interval '0' else f.delay end, f.origin_utc),
               date_bin(f.length, f.source_cursor_utc, f.origin_utc)) end),
       coalesce(f.over_budget or (f.stop_utc is null and f.next_utc + f.length <= p_now_utc), false),
       coalesce(f.bars, '{}')
  from frontier f;
end $$;
comment on function public._agg_forward(text[], text[], timestamptz, integer, boolean) is
  'For each task that has source rows from its cursor on: the windows it may pass now, at most p_max_windows of them with rows. Gaps are free.';
revoke execute on function public._agg_forward(text[], text[], timestamptz, integer, boolean)
  from public, anon, authenticated, service_role;
