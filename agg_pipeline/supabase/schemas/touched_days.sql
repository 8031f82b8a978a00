-- touched_days: days whose bars changed and that no run has reported yet.
-- Called by: _agg_store, close_run, backfill_bars. Needs: timeframes.
--
-- Dagster marks a day of a timeframe as materialized when a run reports it. A run that is killed after it has stored bars
-- reports nothing; its days stay here, and the next run reports them.

create table public.agg_touched_days (
  id bigint generated always as identity primary key,
  timeframe text not null,
  day date not null
);
-- Not unique: runs side by side would wait for each other.
create index agg_touched_days_day_idx on public.agg_touched_days (timeframe, day);
alter table public.agg_touched_days enable row level security;
revoke all on table public.agg_touched_days from public, anon, authenticated, service_role;
comment on table public.agg_touched_days is
  'Days (UTC, by the start of the window) whose bars of a timeframe were created, revised or retired, until a run has reported them.';

create function public.agg_touched_days(p_limit integer default 1000)
returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
           'through_id', coalesce(max(t.id), 0),
           'days', coalesce(jsonb_agg(distinct jsonb_build_object('timeframe', t.timeframe, 'day', t.day)), '[]'))
    from (select * from public.agg_touched_days order by id limit p_limit) t
$$;
comment on function public.agg_touched_days(integer) is
  'JSON {through_id, days: [{timeframe, day}, ...]}: the first p_limit days whose bars changed and that were not reported; through_id is for agg_forget_touched_days.';
revoke execute on function public.agg_touched_days(integer) from public, anon, authenticated;
grant execute on function public.agg_touched_days(integer) to service_role;

-- Of two runs side by side both may report a day: twice rather than never.
create function public.agg_forget_touched_days(p_through_id bigint)
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  deleted integer;
begin
  delete from public.agg_touched_days t where t.id <= p_through_id;
  get diagnostics deleted = row_count;
  return jsonb_build_object('success', true, 'deleted', deleted);
end $$;
comment on function public.agg_forget_touched_days(bigint) is 'Deletes the days up to p_through_id, after they were reported. Repeating it changes nothing.';
revoke execute on function public.agg_forget_touched_days(bigint) from public, anon, authenticated;
grant execute on function public.agg_forget_touched_days(bigint) to service_role;
