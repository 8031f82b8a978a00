-- agg_explain: all that is known of one window of a task: what was expected, what came, what was made of it and when.
-- Called by: AggGateway.explain (agg-pipeline explain). Needs: tasks, source_bars, _agg_slots, _agg_compute.
--
-- Why a revision was written is told from what can be seen of it: source rows that were written between it and the one
-- before, another calendar, another version. A source row that went leaves no trace, and is the cause if nothing else
-- is.

create function public.agg_explain(p_symbol text, p_tf text, p_time_utc timestamptz)
returns jsonb language plpgsql stable security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
#variable_conflict use_column
declare
  task public.agg_tasks;
  slot public.agg_timeframes;
  starts timestamptz;
  ends timestamptz;
  hours record;
begin
  perform public._agg_windows_of(p_symbol, p_tf, p_time_utc, p_time_utc + interval '1 microsecond');  -- refuses what is no task
  select * into task from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf;
  select * into slot from public.agg_timeframes t where t.timeframe = task.source_timeframe;
  starts := date_bin(task.length, p_time_utc, task.origin_utc);
  ends := starts + task.length;
  select h.expected, h.closed into hours from public._agg_slots(array[(p_symbol, p_tf, starts, ends)::public.agg_range]) h;

  return (
    with came as materialized (
      select b.ts_utc, b.reject_reason, coalesce(hours.closed @> b.ts_utc, false) as off_session,
             b.open, b.high, b.low, b.close, b.vol, b.trade_count, written.at as written_at
        from public.agg_source_bars b
       cross join lateral (
          select r.ingested_at as at from public.data_bars r
           where b.is_base and r.canonical_symbol = p_symbol and r.timeframe = b.timeframe and r.ts_utc = b.ts_utc
          union all
          select d.created_at from public.derived_data_bars d
           where not b.is_base and d.canonical_symbol = p_symbol and d.timeframe = b.timeframe and d.ts_utc = b.ts_utc
             and d.deleted_at is null) written
       where b.is_base = task.source_is_base and b.canonical_symbol = p_symbol and b.timeframe = task.source_timeframe
         and b.ts_utc >= starts and b.ts_utc < ends
    ), revision as materialized (
      select d.*, lag(d.created_at) over w as before_at, lag(d.deleted_at) over w as retired_at,
             lag(d.derivation_version) over w as version_before, lag(d.expected_candles) over w as expected_before
        from public.derived_data_bars d
       where d.canonical_symbol = p_symbol and d.timeframe = p_tf and d.ts_utc = starts
      window w as (order by d.revision, d.id)
    )
    select jsonb_build_object(
      'canonical_symbol', p_symbol, 'timeframe', p_tf, 'from_utc', starts, 'to_utc', ends,
      'source_timeframe', task.source_timeframe, 'source_table', case when task.source_is_base then 'data_bars' else 'derived_data_bars' end,
      'expected', coalesce(hours.expected, task.expected_candles),
      'first_window_utc', task.first_window, 'cursor_utc', task.cursor_utc,
      'passed_by_utc', ends + task.delay, 'deadline_utc', ends + task.deadline,
      'source', (select coalesce(jsonb_agg(to_jsonb(c) order by c.ts_utc), '[]') from came c),
      'absent', (select coalesce(jsonb_agg(g.at order by g.at), '[]')
                   from generate_series(starts, ends - slot.length, slot.length) g (at)
                  where not coalesce(hours.closed @> g.at, false)
                    and not exists (select from came c where c.ts_utc = g.at)),
      'touched', (select jsonb_build_object('since_utc', min(d.logged_at), 'reason', max(d.reason))
                    from public.agg_dirty_ranges d
                   where d.canonical_symbol = p_symbol and d.timeframe = p_tf and d.from_utc < ends and d.to_utc > starts
                  having count(*) > 0),
      'revisions', (select coalesce(jsonb_agg(jsonb_build_object(
          'revision', r.revision, 'built_at', r.created_at, 'ended_at', r.deleted_at, 'open', r.open, 'high', r.high, 'low', r.low,
          'close', r.close, 'vol', r.vol, 'quality_score', r.quality_score, 'source_candles', r.source_candles,
          'expected_candles', r.expected_candles, 'derivation_version', r.derivation_version,
          'cause', case
            when r.before_at is null then 'first build'
            when r.retired_at < r.created_at then 'its source came back'
            else coalesce(
              (select 'source bars were written: ' || string_agg(to_char(c.ts_utc, 'HH24:MI'), ', ' order by c.ts_utc)
                 from came c where c.written_at > r.before_at and c.written_at <= r.created_at),
              case when r.expected_before <> r.expected_candles
                   then format('other hours: %s source bars are expected, before it were %s', r.expected_candles, r.expected_before) end,
              case when r.version_before <> r.derivation_version
                   then format('derivation version %s, before it %s', r.derivation_version, r.version_before) end,
              'source bars went, or were written again since') end)
          order by r.revision, r.id), '[]') from revision r)));
end $$;
comment on function public.agg_explain(text, text, timestamptz) is
  'The window of a task that holds p_time_utc: source rows with what was rejected or outside of the hours, absent ones, every revision of its bar with time and cause, whether it waits to be built again. AG002: no such task.';
revoke execute on function public.agg_explain(text, text, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_explain(text, text, timestamptz) to service_role;
