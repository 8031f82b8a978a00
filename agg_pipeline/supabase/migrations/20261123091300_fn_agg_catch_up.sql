-- _agg_catch_up: one level of the road: take the log of touched windows, read the source, write the bars, move the cursor.
-- Called by: catchup_aggregation_batch, which holds the task rows locked. Needs: _agg_forward, _agg_store. Repeat: yes.
-- Undo: drop function public._agg_catch_up;
--
-- The log is taken first and the source is read after, never the other way round: whatever commits in between is read
-- and stays in the log as well, so it can be computed twice but never missed.
create or replace function public._agg_catch_up(
  p_symbols text[], p_timeframes text[], p_max_windows integer, p_now_utc timestamptz,
  p_derivation_version integer, p_ignore_confirmation boolean)
returns table (canonical_symbol text, timeframe text, result jsonb)
language plpgsql volatile set search_path = '' set timezone = 'UTC' as $$
#variable_conflict use_column
declare
  touched public.agg_range[];
  forward public.agg_frontier[];
  again public.agg_range[];
  later public.agg_range[];
  bars public.agg_bar[];
begin
  -- 1. Touched windows below the cursor. Those at or above it need no note: the rows that touched them are committed,
  --    and the cursor has yet to pass there.
  with taken as (
    delete from public.agg_dirty_ranges d using unnest(p_symbols, p_timeframes) as asked (canonical_symbol, timeframe)
     where d.canonical_symbol = asked.canonical_symbol and d.timeframe = asked.timeframe
    returning d.canonical_symbol, d.timeframe, d.from_utc, d.to_utc
  ), merged as (
    select t.canonical_symbol, t.timeframe,
           range_agg(tstzrange(date_bin(t.length, d.from_utc, t.origin_utc),
                               date_bin(t.length, d.to_utc - interval '1 microsecond', t.origin_utc) + t.length))
           * tstzmultirange(tstzrange(t.first_window, t.cursor_utc)) as ranges
      from taken d join public.agg_tasks t on t.canonical_symbol = d.canonical_symbol and t.timeframe = d.timeframe
     group by t.canonical_symbol, t.timeframe, t.first_window, t.cursor_utc
  )
  select coalesce(array_agg((m.canonical_symbol, m.timeframe, lower(run), upper(run))::public.agg_range), '{}')
    into touched from merged m, unnest(m.ranges) run;

  -- 2. New windows, from the cursor on.
  select coalesce(array_agg(f), '{}') into forward
    from public._agg_forward(p_symbols, p_timeframes, p_now_utc, p_max_windows, p_ignore_confirmation) f;

  -- 3. What max_windows leaves for touched windows is cut from them in order of time; the rest goes back to the log.
  with counted as (
    select r.*, t.length, extract(epoch from r.to_utc - r.from_utc) / extract(epoch from t.length) as windows,
           p_max_windows - coalesce(cardinality(f.bars), 0) as budget
      from unnest(touched) r
      join public.agg_timeframes t on t.timeframe = r.timeframe
      left join unnest(forward) f on f.canonical_symbol = r.canonical_symbol and f.timeframe = r.timeframe
  ), dealt as (
    select *, least(windows, greatest(0, budget - coalesce(sum(windows) over (
               partition by canonical_symbol, timeframe order by from_utc
               rows between unbounded preceding and 1 preceding), 0))) as share
      from counted
  ), cut as (
    select canonical_symbol, timeframe, from_utc, from_utc + share::integer * length as cut_utc, to_utc from dealt
  )
  select coalesce(array_agg((canonical_symbol, timeframe, from_utc, cut_utc)::public.agg_range) filter (where from_utc < cut_utc), '{}'),
         coalesce(array_agg((canonical_symbol, timeframe, cut_utc, to_utc)::public.agg_range) filter (where cut_utc < to_utc), '{}')
    into again, later from cut;
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
  select canonical_symbol, timeframe, from_utc, to_utc from unnest(later);

  -- 4. Compute the touched windows, write all, move the cursors.
  select coalesce(array_agg(b), '{}') into bars
    from (select b from public._agg_compute(again) b
          union all
          select b from unnest(forward) f, unnest(f.bars) b) b (b);

  return query
  with stored as materialized (
    select * from public._agg_store(
      again || coalesce((select array_agg((canonical_symbol, timeframe, from_utc, to_utc)::public.agg_range)
                           from unnest(forward) where from_utc < to_utc), '{}'),
      bars, p_derivation_version)
  ), counted as (
    select canonical_symbol, timeframe, count(*)::integer as windows, sum(source_rejected)::integer as rejected,
           (count(*) filter (where quality_score is null))::integer as skipped
      from unnest(bars) group by 1, 2
  ), redone as materialized (
    select r.canonical_symbol, r.timeframe,
           sum(extract(epoch from r.to_utc - r.from_utc) / extract(epoch from t.length))::integer as windows
      from unnest(again) r join public.agg_timeframes t on t.timeframe = r.timeframe group by 1, 2
  ), moved as (
    update public.data_agg_state s
       set last_agg_bar_ts_utc = greatest(s.last_agg_bar_ts_utc, f.to_utc),
           lease_expires_at = case when s.lease_expires_at is not null
                                   then p_now_utc + make_interval(secs => s.lease_seconds) end
      from unnest(p_symbols, p_timeframes) as asked (canonical_symbol, timeframe)
      left join unnest(forward) f on f.canonical_symbol = asked.canonical_symbol and f.timeframe = asked.timeframe
     where s.canonical_symbol = asked.canonical_symbol and s.timeframe = asked.timeframe
    returning s.canonical_symbol, s.timeframe, s.last_agg_bar_ts_utc, s.lease_expires_at,
              f.canonical_symbol is null as waits, f.has_more, cardinality(f.bars) as new_windows
  )
  select m.canonical_symbol, m.timeframe, jsonb_strip_nulls(jsonb_build_object(
           'success', true,
           'windows_processed', coalesce(m.new_windows, 0) + coalesce(r.windows, 0),
           'windows_redone', coalesce(r.windows, 0),
           'bars_created', coalesce(s.created + s.revised, 0),
           'bars_quality_poor', coalesce(s.poor, 0),
           'bars_skipped', coalesce(c.skipped, 0),
           'bars_revised', coalesce(s.revised, 0),
           'bars_retired', coalesce(s.retired, 0),
           'bars_unchanged', coalesce(s.unchanged, 0),
           'source_rejected', coalesce(c.rejected, 0),
           'continue', coalesce(m.has_more, false)
                       or exists (select from unnest(later) l
                                   where l.canonical_symbol = m.canonical_symbol and l.timeframe = m.timeframe),
           'reason', case when m.waits then
             case when m.last_agg_bar_ts_utc is null then 'no_source_data_anywhere' else 'cursor_beyond_source_data' end end,
           'lease_expires_at', m.lease_expires_at))
         || jsonb_build_object('cursor_advanced_to', m.last_agg_bar_ts_utc)
    from moved m
    left join stored s on s.canonical_symbol = m.canonical_symbol and s.timeframe = m.timeframe
    left join counted c on c.canonical_symbol = m.canonical_symbol and c.timeframe = m.timeframe
    left join redone r on r.canonical_symbol = m.canonical_symbol and r.timeframe = m.timeframe;
end $$;
revoke execute on function public._agg_catch_up(text[], text[], integer, timestamptz, integer, boolean)
  from public, anon, authenticated, service_role;
comment on function public._agg_catch_up(text[], text[], integer, timestamptz, integer, boolean) is
  'Catches up tasks of one timeframe whose rows the caller has locked; at most p_max_windows windows each, gaps free.';
