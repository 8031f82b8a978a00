-- agg_gaps, agg_gap_report: where source bars are missing, and whether that means anything.
-- Called by: AggGateway.gaps (agg-pipeline gaps, check), operators. Needs: source_bars, tasks, _agg_slots.
--
-- A run of absent bars lasts from one valid source bar to the next one. It is cut to the part in which bars are
-- expected: a night between two complete days is closed, and a last minute that is missing before it is one minute, not
-- a night. Not judged is what lies before the first source bar, what is younger than the deadline, for it may still
-- come, and what the source's own task has yet to build.

create function public.agg_gaps(
  p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz, p_now_utc timestamptz default now())
returns table (from_utc timestamptz, to_utc timestamptz, kind text, missing integer, age interval)
language plpgsql stable security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
#variable_conflict use_column
declare
  now_utc constant timestamptz := coalesce(p_now_utc, now());
  task public.agg_tasks;
  slot public.agg_timeframes;
  sparse boolean;
  first_utc timestamptz;
  end_utc timestamptz;
begin
  perform public._agg_windows_of(p_symbol, p_tf, p_from_utc, p_to_utc);  -- refuses what is no task or no range
  select * into task from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf;
  select * into slot from public.agg_timeframes t where t.timeframe = task.source_timeframe;
  select coalesce(a.is_sparse, false) into sparse from public.core_asset_registry_all a where a.canonical_symbol = p_symbol;
  select date_bin(slot.length, b.ts_utc, slot.origin_utc) into first_utc from public.agg_source_bars b
   where b.is_base = task.source_is_base and b.canonical_symbol = p_symbol and b.timeframe = task.source_timeframe
     and b.reject_reason is null and b.ts_utc >= task.first_window order by b.ts_utc limit 1;
  select least(date_bin(slot.length, p_to_utc - interval '1 microsecond', slot.origin_utc) + slot.length,
               date_bin(slot.length, now_utc - task.deadline, slot.origin_utc),
               case when not task.source_is_base then source.cursor_utc end) into end_utc
    from (select) one left join public.agg_tasks source
      on source.canonical_symbol = p_symbol and source.timeframe = task.source_timeframe;
  if first_utc is null or greatest(first_utc, p_from_utc) >= end_utc then
    return;
  end if;
  first_utc := greatest(first_utc, date_bin(slot.length, p_from_utc, slot.origin_utc));

  return query
  with absent as materialized (
    select ended as from_utc, next_utc as to_utc
      from (select b.ts_utc + slot.length as ended, lead(b.ts_utc, 1, end_utc) over (order by b.ts_utc) as next_utc
              from (select first_utc - slot.length as ts_utc
                    union all
                    select s.ts_utc from public.agg_source_bars s
                     where s.is_base = task.source_is_base and s.canonical_symbol = p_symbol
                       and s.timeframe = task.source_timeframe and s.ts_utc >= first_utc and s.ts_utc < end_utc
                       and s.reject_reason is null) b) run
     where ended < next_utc
  ), judged as (
    select a.from_utc, a.to_utc, h.expected,
           tstzmultirange(tstzrange(a.from_utc, a.to_utc)) - coalesce(h.closed, '{}') as open
      from absent a
      left join public._agg_slots(array(
             select (p_symbol, p_tf, absent.from_utc, absent.to_utc)::public.agg_range from absent)) h on h.from_utc = a.from_utc
  )
  select cut.from_utc, cut.to_utc,
         case when isempty(j.open) then 'closed' when sparse then 'quiet' else 'missing' end,
         coalesce(j.expected, (extract(epoch from j.to_utc - j.from_utc) / extract(epoch from slot.length))::integer),
         now_utc - cut.from_utc
    from judged j
   cross join lateral (select coalesce(lower(j.open), j.from_utc) as from_utc, coalesce(upper(j.open), j.to_utc) as to_utc) cut
   order by 1;
end $$;
comment on function public.agg_gaps(text, text, timestamptz, timestamptz, timestamptz) is
  'Runs of absent source bars of a task: closed (none was expected), quiet (the asset is_sparse) or missing, with the number of bars that were expected; to_utc is not part of the run. A set: a hosted REST API cuts it at 1,000 rows; agg_gap_report is not cut. AG002: no such task, AG003: no range.';
revoke execute on function public.agg_gaps(text, text, timestamptz, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_gaps(text, text, timestamptz, timestamptz, timestamptz) to service_role;

-- One JSON value: of a set of rows a hosted REST API returns the first thousand and says nothing.
create function public.agg_gap_report(
  p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz, p_now_utc timestamptz default now())
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC'
  set enable_seqscan = off set enable_bitmapscan = off set jit = off as $$
  with task as materialized (
    select t.* from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf
  ), row_counts as materialized (
    select count(*) filter (where b.reject_reason is null) as found, count(*) filter (where b.reject_reason is not null) as rejected
      from task t join public.agg_source_bars b
        on b.is_base = t.source_is_base and b.canonical_symbol = t.canonical_symbol and b.timeframe = t.source_timeframe
       and b.ts_utc >= p_from_utc and b.ts_utc < p_to_utc
  ), late as materialized (
    select count(*) as late
      from task t join public.agg_timeframes slot on slot.timeframe = t.source_timeframe
      join public.data_bars b
        on t.source_is_base and b.canonical_symbol = t.canonical_symbol and b.timeframe = t.source_timeframe
       and b.ts_utc >= p_from_utc and b.ts_utc < p_to_utc and b.ingested_at > b.ts_utc + slot.length + t.deadline
  )
  select jsonb_build_object(
    'canonical_symbol', p_symbol, 'timeframe', p_tf, 'found', r.found, 'rejected', r.rejected, 'late', l.late, 'gaps', (
      select coalesce(jsonb_agg(jsonb_build_object('from_utc', g.from_utc, 'to_utc', g.to_utc, 'kind', g.kind, 'missing', g.missing,
                                                   'age_seconds', extract(epoch from g.age)::bigint) order by g.from_utc), '[]')
        from public.agg_gaps(p_symbol, p_tf, p_from_utc, p_to_utc, p_now_utc) g))
    from row_counts r cross join late l
$$;
comment on function public.agg_gap_report(text, text, timestamptz, timestamptz, timestamptz) is
  'agg_gaps as JSON, with source rows counted: found, rejected (not valid), late (came, or were last written, later than late_deadline_seconds after their end).';
revoke execute on function public.agg_gap_report(text, text, timestamptz, timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_gap_report(text, text, timestamptz, timestamptz, timestamptz) to service_role;
