-- agg_invalidate_range: an operator's word that some windows are in doubt; the next tick rebuilds them.
-- Called by: operators. Needs: tasks, dirty_ranges.

-- The range of a task widened to whole windows. Raises AG002 for an unknown task and AG003 for what is no range.
create function public._agg_windows_of(p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz)
returns public.agg_range language plpgsql stable set search_path = '' set timezone = 'UTC' as $$
declare
  task public.agg_tasks;
begin
  if exists (select from public.agg_tasks t where t.canonical_symbol = p_symbol and t.timeframe = p_tf and not t.is_possible) then
    perform public._agg_raise(public._agg_fault('reading', jsonb_build_object('canonical_symbol', p_symbol, 'timeframe', p_tf),
      'AG003', 'its cursor, start or next run is no time between 1900 and 2200', null));
  end if;
  select * into task from public.agg_tasks where canonical_symbol = p_symbol and timeframe = p_tf;
  if task.canonical_symbol is null then
    raise exception 'there is no task %/%', coalesce(p_symbol, 'null'), coalesce(p_tf, 'null') using errcode = 'AG002',
      hint = coalesce('Tasks of ' || p_symbol || ': ' || (
        select string_agg(t.timeframe, ', ' order by t.minutes) from public.agg_tasks t where t.canonical_symbol = p_symbol) || '.',
        'Add the asset to core_asset_registry_all and call sync_agg_state_from_registry.');
  elsif p_from_utc is null or p_to_utc is null or not isfinite(p_from_utc) or not isfinite(p_to_utc) or p_from_utc >= p_to_utc then
    raise exception '% to % is no range of time of %/%', coalesce(p_from_utc::text, 'null'), coalesce(p_to_utc::text, 'null'),
      p_symbol, p_tf using errcode = 'AG003', hint = 'Give two times; p_to_utc is the later one and not part of the range.';
  end if;
  return (p_symbol, p_tf, date_bin(task.length, p_from_utc, task.origin_utc),
          date_bin(task.length, p_to_utc - interval '1 microsecond', task.origin_utc) + task.length)::public.agg_range;
end $$;
comment on function public._agg_windows_of(text, text, timestamptz, timestamptz) is 'A range of time widened to whole windows of a task.';
revoke execute on function public._agg_windows_of(text, text, timestamptz, timestamptz) from public, anon, authenticated, service_role;

create function public.agg_invalidate_range(
  p_symbol text, p_tf text, p_from_utc timestamptz, p_to_utc timestamptz, p_reason text)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
declare
  marked constant public.agg_range := public._agg_windows_of(p_symbol, p_tf, p_from_utc, p_to_utc);
begin
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc, reason)
  values (marked.canonical_symbol, marked.timeframe, marked.from_utc, marked.to_utc, coalesce(p_reason, 'no reason given'));
  return jsonb_build_object('success', true, 'windows', (
    select (extract(epoch from marked.to_utc - marked.from_utc) / extract(epoch from t.length))::bigint
      from public.agg_timeframes t where t.timeframe = p_tf));
end $$;
comment on function public.agg_invalidate_range(text, text, timestamptz, timestamptz, text) is
  'Marks the windows of a range as touched, so that the next tick rebuilds those that it has built; {windows} counts them, with or without data. AG002: no such task, AG003: no range.';
revoke execute on function public.agg_invalidate_range(text, text, timestamptz, timestamptz, text) from public, anon, authenticated;
grant execute on function public.agg_invalidate_range(text, text, timestamptz, timestamptz, text) to service_role;
