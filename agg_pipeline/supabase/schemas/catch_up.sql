-- _agg_catch_up: one level of the road: take the log of touched windows, read the source, write the bars, move the
-- cursor.
-- Called by: catchup_aggregation_batch, which holds the task rows locked. Needs: _agg_forward, _agg_store.
--
-- The log is taken first and the source is read after, never the other way round: whatever commits in between is read
-- and stays in the log as well, so it can be computed twice but never missed.

-- The first p_limit windows of a range with source rows or a live bar. One look per window that holds something, however
-- long the gaps between them are.
create function public._agg_held(p_range public.agg_range, p_limit integer)
returns setof timestamptz language sql stable set search_path = '' as $$
  with recursive task as materialized (
    select t.source_is_base, t.source_timeframe, t.length, t.origin_utc from public.agg_tasks t
     where t.canonical_symbol = p_range.canonical_symbol and t.timeframe = p_range.timeframe
  ), held as (
    select p_range.from_utc - t.length as ts_utc, 0 as nth from task t
    union all
    select least(source.ts_utc, live.ts_utc), h.nth + 1
      from held h cross join task t
      left join lateral (
        select date_bin(t.length, b.ts_utc, t.origin_utc) as ts_utc from public.agg_source_bars b
         where b.is_base = t.source_is_base and b.canonical_symbol = p_range.canonical_symbol
           and b.timeframe = t.source_timeframe and b.ts_utc >= h.ts_utc + t.length and b.ts_utc < p_range.to_utc
         order by b.ts_utc limit 1) source on true
      left join lateral (
        select date_bin(t.length, d.ts_utc, t.origin_utc) as ts_utc from public.derived_data_bars d
         where d.canonical_symbol = p_range.canonical_symbol and d.timeframe = p_range.timeframe and d.deleted_at is null
           and d.ts_utc >= h.ts_utc + t.length and d.ts_utc < p_range.to_utc
         order by d.ts_utc limit 1) live on true
     where h.nth < p_limit and (source.ts_utc is not null or live.ts_utc is not null)
  )
  select ts_utc from held where nth > 0
$$;
comment on function public._agg_held(public.agg_range, integer) is
  'Starts of the first p_limit windows of a range that hold source rows or a live bar, in order of time.';
revoke execute on function public._agg_held(public.agg_range, integer) from public, anon, authenticated, service_role;

create function public._agg_catch_up(
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
    -- Their places first, and offset 0, as in _agg_store; rows of the log are never updated, so a place stays theirs.
    delete from public.agg_dirty_ranges d
     where d.ctid = any (array(
       select logged.ctid from unnest(p_symbols, p_timeframes) as asked (canonical_symbol, timeframe)
        cross join lateral (
          select l.ctid from public.agg_dirty_ranges l
           where l.canonical_symbol = asked.canonical_symbol and l.timeframe = asked.timeframe
          offset 0) logged))
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
  --    Windows that hold nothing are free, as in a gap that the cursor jumps.
  with counted as (
    select r, r.canonical_symbol, r.timeframe, r.from_utc, r.to_utc,
           greatest(0, p_max_windows - coalesce(cardinality(f.bars), 0)) as budget,
           sum(extract(epoch from r.to_utc - r.from_utc) / extract(epoch from t.length)) over task as windows
      from unnest(touched) r
      join public.agg_timeframes t on t.timeframe = r.timeframe
      left join unnest(forward) f on f.canonical_symbol = r.canonical_symbol and f.timeframe = r.timeframe
    window task as (partition by r.canonical_symbol, r.timeframe)
  ), held as (
    select c.canonical_symbol, c.timeframe, c.budget, h as ts_utc,
           row_number() over (partition by c.canonical_symbol, c.timeframe order by h) as nth
      from counted c cross join lateral public._agg_held(c.r, c.budget + 1) h
     where c.windows > c.budget
  ), cut as (
    select c.canonical_symbol, c.timeframe, c.from_utc, c.to_utc,
           least(c.to_utc, greatest(c.from_utc, coalesce(h.ts_utc, c.to_utc))) as cut_utc
      from counted c
      left join held h on h.canonical_symbol = c.canonical_symbol and h.timeframe = c.timeframe and h.nth = h.budget + 1
  )
  select coalesce(array_agg((canonical_symbol, timeframe, from_utc, cut_utc)::public.agg_range) filter (where from_utc < cut_utc), '{}'),
         coalesce(array_agg((canonical_symbol, timeframe, cut_utc, to_utc)::public.agg_range) filter (where cut_utc < to_utc), '{}')
    into again, later from cut;
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
  select canonical_symbol, timeframe, from_utc, to_utc from unnest(later);

  -- 4. Compute the touched windows, write all, move the cursors.
  select coalesce(array_agg(b), '{}') into bars
    from (select public._agg_compute(again)
          union all
          select unnest(f.bars) from unnest(forward) f) b (b);

  return query
  with stored as materialized (
    select * from public._agg_store(
      again || coalesce((select array_agg((canonical_symbol, timeframe, from_utc, to_utc)::public.agg_range)
                           from unnest(forward) where from_utc < to_utc), '{}'),
      bars, p_derivation_version)
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
           'windows_processed', coalesce(s.windows, 0),
           'windows_redone', coalesce(s.windows, 0) - coalesce(m.new_windows, 0),
           'bars_created', coalesce(s.created + s.revised, 0),
           'bars_quality_poor', coalesce(s.poor, 0),
           'bars_skipped', coalesce(s.skipped, 0),
           'bars_revised', coalesce(s.revised, 0),
           'bars_retired', coalesce(s.retired, 0),
           'bars_unchanged', coalesce(s.unchanged, 0),
           'source_rejected', coalesce(s.rejected, 0),
           'continue', coalesce(m.has_more, false)
                       or exists (select from unnest(later) l
                                   where l.canonical_symbol = m.canonical_symbol and l.timeframe = m.timeframe),
           'reason', case when m.waits then
             case when m.last_agg_bar_ts_utc is null then 'no_source_data_anywhere' else 'cursor_beyond_source_data' end end,
           'lease_expires_at', m.lease_expires_at))
         || jsonb_build_object('cursor_advanced_to', m.last_agg_bar_ts_utc)
    from moved m
    left join stored s on s.canonical_symbol = m.canonical_symbol and s.timeframe = m.timeframe;
end $$;
comment on function public._agg_catch_up(text[], text[], integer, timestamptz, integer, boolean) is
  'Catches up tasks of one timeframe whose rows the caller has locked; at most p_max_windows windows each, gaps free.';
revoke execute on function public._agg_catch_up(text[], text[], integer, timestamptz, integer, boolean)
  from public, anon, authenticated, service_role;
