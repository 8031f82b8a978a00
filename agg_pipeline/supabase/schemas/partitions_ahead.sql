-- agg_partitions_ahead: partitions of the bars tables for the months to come, where those tables are partitioned.
-- Called by: AggGateway.partitions_ahead (job retention, agg-pipeline partition). Needs: bars.
--
-- Partitioning is a choice (supabase/optional); without it this does nothing. Rows outside all months, a bar from the
-- far future for one, are in the default partition, and move when their month is made.

create function public.agg_partitions_ahead(p_months integer default 3, p_now_utc timestamptz default now())
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' set lock_timeout = '4s' as $$
declare
  bars text;
  part text;
  month_utc timestamptz;
  made text[] := '{}';
begin
  if coalesce(p_months, 3) not between 0 and 120 then
    raise exception 'p_months is %, but 0 to 120 months can be made ahead', p_months using errcode = 'AG003',
      hint = 'Leave it out for 3.';
  end if;
  for bars, month_utc in
    select c.relname, date_trunc('month', coalesce(p_now_utc, now())) + make_interval(months => n)
      from pg_catalog.pg_class c cross join generate_series(0, coalesce(p_months, 3)) n
     where c.relnamespace = 'public'::regnamespace and c.relname in ('data_bars', 'derived_data_bars') and c.relkind = 'p'
     order by 1, 2
  loop
    part := format('%s_%s', bars, to_char(month_utc, 'YYYYMM'));
    -- What lies before the first month is in one partition, from the time before.
    continue when to_regclass('public.' || part) is not null or exists (
      select from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
       where i.inhparent = to_regclass('public.' || bars) and c.relname like bars || '\_before\_%'
         and to_char(month_utc, 'YYYYMM') < right(c.relname, 6));
    execute format('create temporary table agg_moved on commit drop as select * from public.%I_other where ts_utc >= %L and ts_utc < %L',
                   bars, month_utc, month_utc + interval '1 month');
    execute format('delete from public.%I_other where ts_utc >= %L and ts_utc < %L', bars, month_utc, month_utc + interval '1 month');
    execute format('create table public.%I partition of public.%I for values from (%L) to (%L)',
                   part, bars, month_utc, month_utc + interval '1 month');
    execute format('alter table public.%I enable row level security', part);
    execute format('revoke all on table public.%I from public, anon, authenticated, service_role', part);
    execute format('insert into public.%I select * from pg_temp.agg_moved', part);
    drop table pg_temp.agg_moved;
    made := made || part;
  end loop;
  return jsonb_build_object('success', true, 'made', made);
end $$;
comment on function public.agg_partitions_ahead(integer, timestamptz) is
  'Makes the partitions of this month and of p_months to come that data_bars and derived_data_bars lack; {made}. Nothing where they are not partitioned.';
revoke execute on function public.agg_partitions_ahead(integer, timestamptz) from public, anon, authenticated;
grant execute on function public.agg_partitions_ahead(integer, timestamptz) to service_role;
