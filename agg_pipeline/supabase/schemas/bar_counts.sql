-- bar counts: how many live derived bars there are, by symbol, timeframe, day and quality.
-- Called by: AggGateway.bar_summary, bars_by_day. Needs: bars, tasks.

create function public.agg_bar_summary(
  p_symbols text[] default null, p_from_utc timestamptz default '-infinity', p_to_utc timestamptz default 'infinity')
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC' as $$
  select coalesce(jsonb_agg(to_jsonb(counted) - 'minutes' order by counted.canonical_symbol, counted.minutes), '[]') from (
    select d.canonical_symbol, d.timeframe, t.minutes, count(*) as bars, min(d.ts_utc) as first_utc, max(d.ts_utc) as last_utc,
           count(*) filter (where d.quality_score = 2) as quality_2, count(*) filter (where d.quality_score = 1) as quality_1,
           count(*) filter (where d.quality_score = 0) as quality_0,
           count(*) filter (where d.quality_score = -1) as quality_minus_1,
           count(*) filter (where d.revision > 1) as revised
      from public.derived_data_bars d join public.agg_timeframes t on t.timeframe = d.timeframe
     where d.deleted_at is null and (p_symbols is null or d.canonical_symbol = any (p_symbols))
       and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc
     group by d.canonical_symbol, d.timeframe, t.minutes) counted
$$;
comment on function public.agg_bar_summary(text[], timestamptz, timestamptz) is
  'Array: live derived bars of a range counted per symbol, timeframe and quality score.';
revoke execute on function public.agg_bar_summary(text[], timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_bar_summary(text[], timestamptz, timestamptz) to service_role;

-- Joined to the tasks, so that each task's bars are one range of an index, however many symbols there are.
create function public.agg_bars_by_day(p_symbols text[], p_from_utc timestamptz, p_to_utc timestamptz)
returns jsonb language sql stable security definer set search_path = '' set timezone = 'UTC'
  set plan_cache_mode = force_custom_plan set jit = off as $$
  select coalesce(jsonb_agg(to_jsonb(counted) - 'minutes' order by counted.minutes, counted.day), '[]') from (
    select d.timeframe, t.minutes, (d.ts_utc at time zone 'UTC')::date as day, count(*) as bars,
           count(*) filter (where d.quality_score = 2) as quality_2, count(*) filter (where d.quality_score = 1) as quality_1,
           count(*) filter (where d.quality_score = 0) as quality_0,
           count(*) filter (where d.quality_score = -1) as quality_minus_1
      from public.agg_tasks t
      join public.derived_data_bars d on d.canonical_symbol = t.canonical_symbol and d.timeframe = t.timeframe
     where t.canonical_symbol = any (p_symbols) and d.deleted_at is null and d.ts_utc >= p_from_utc and d.ts_utc < p_to_utc
     group by d.timeframe, t.minutes, day) counted
$$;
comment on function public.agg_bars_by_day(text[], timestamptz, timestamptz) is
  'Array: live derived bars of symbols in a range counted per timeframe, UTC day and quality score.';
revoke execute on function public.agg_bars_by_day(text[], timestamptz, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_bars_by_day(text[], timestamptz, timestamptz) to service_role;
