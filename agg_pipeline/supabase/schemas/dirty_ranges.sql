-- dirty ranges: which windows of which task a change of source rows has touched.
-- Called by: triggers on both bars tables write; _agg_catch_up consumes. Needs: bars, timeframes.
--
-- The log is unconditional. Logging "only below the cursor" reads a cursor that a concurrent catch-up is about to move,
-- and loses the rows of every transaction that commits later than it wrote. One row is one run of touching windows of
-- one consumer, so two bars far apart never mark what lies between them.

-- No primary key: nobody names a single row of it, and one index less is what a batch of many windows is faster by.
create table public.agg_dirty_ranges (
  canonical_symbol text not null,
  timeframe text not null,
  from_utc timestamptz not null,
  to_utc timestamptz not null,
  logged_at timestamptz not null default now(),
  reason text,
  check (from_utc < to_utc)
);
create index agg_dirty_ranges_task_idx
  on public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc);

-- Rows live for one tick; vacuum early so that the log stays a few pages.
alter table public.agg_dirty_ranges set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
alter table public.agg_dirty_ranges enable row level security;
revoke all on table public.agg_dirty_ranges from public, anon, authenticated, service_role;
comment on table public.agg_dirty_ranges is
  'Windows [from_utc, to_utc) of task (canonical_symbol, timeframe) whose source changed. Internal: use agg_invalidate_range.';
comment on column public.agg_dirty_ranges.reason is 'Why an operator marked the range; null: source rows changed.';

-- security definer: an ingester may write bars without any right on the log.
create function public._agg_log_dirty() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  few integer;
begin
  -- An upsert fires both the insert and the update trigger, one of them mostly without rows, and many ingesters write
  -- row by row: there, setting up the statements below would cost more than all else that they do.
  if tg_op in ('INSERT', 'UPDATE') then
    few := (select count(*) from (select from new_rows limit 2) seen);
    if few = 0 then
      return null;
    elsif few = 1 and tg_op = 'INSERT' then
      insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
      select b.canonical_symbol, t.timeframe, date_bin(t.length, b.ts_utc, t.origin_utc),
             date_bin(t.length, b.ts_utc, t.origin_utc) + t.length
        from new_rows b join public.agg_timeframes t on t.source_timeframe = b.timeframe
       where isfinite(b.ts_utc);  -- the end of time is in no window, as an empty range is in none below
      return null;
    elsif few = 1 then
      insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
      select distinct b.canonical_symbol, t.timeframe, date_bin(t.length, b.ts_utc, t.origin_utc),
             date_bin(t.length, b.ts_utc, t.origin_utc) + t.length
        from (select canonical_symbol, timeframe, ts_utc from new_rows
              union all
              select canonical_symbol, timeframe, ts_utc from old_rows) b
        join public.agg_timeframes t on t.source_timeframe = b.timeframe
       where isfinite(b.ts_utc);
      return null;
    end if;
  end if;

  if tg_op = 'INSERT' then
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
      from (select b.canonical_symbol, t.timeframe,
                   range_agg(tstzrange(date_bin(t.length, b.ts_utc, t.origin_utc),
                                       date_bin(t.length, b.ts_utc, t.origin_utc) + t.length)) as runs
              from new_rows b join public.agg_timeframes t on t.source_timeframe = b.timeframe
             group by 1, 2) touched, unnest(touched.runs) run;
  elsif tg_op = 'DELETE' then
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
      from (select b.canonical_symbol, t.timeframe,
                   range_agg(tstzrange(date_bin(t.length, b.ts_utc, t.origin_utc),
                                       date_bin(t.length, b.ts_utc, t.origin_utc) + t.length)) as runs
              from old_rows b join public.agg_timeframes t on t.source_timeframe = b.timeframe
             group by 1, 2) touched, unnest(touched.runs) run;
  elsif tg_op = 'UPDATE' then
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
      from (select b.canonical_symbol, t.timeframe,
                   range_agg(tstzrange(date_bin(t.length, b.ts_utc, t.origin_utc),
                                       date_bin(t.length, b.ts_utc, t.origin_utc) + t.length)) as runs
              from (select canonical_symbol, timeframe, ts_utc from new_rows
                    union all
                    select canonical_symbol, timeframe, ts_utc from old_rows) b
              join public.agg_timeframes t on t.source_timeframe = b.timeframe
             group by 1, 2) touched, unnest(touched.runs) run;
  else  -- TRUNCATE names no rows: all that the tasks have built is in doubt.
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select canonical_symbol, timeframe, agg_start_utc, last_agg_bar_ts_utc
      from public.data_agg_state where agg_start_utc < last_agg_bar_ts_utc;
  end if;
  return null;
end $$;
comment on function public._agg_log_dirty() is 'Trigger: logs the windows that changed source rows touch, for every consumer.';
revoke execute on function public._agg_log_dirty() from public, anon, authenticated, service_role;

create trigger agg_dirty_on_insert after insert on public.data_bars
  referencing new table as new_rows for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_update after update on public.data_bars
  referencing old table as old_rows new table as new_rows for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_delete after delete on public.data_bars
  referencing old table as old_rows for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_truncate after truncate on public.data_bars
  for each statement execute function public._agg_log_dirty();

create trigger agg_dirty_on_insert after insert on public.derived_data_bars
  referencing new table as new_rows for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_update after update on public.derived_data_bars
  referencing old table as old_rows new table as new_rows for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_delete after delete on public.derived_data_bars
  referencing old table as old_rows for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_truncate after truncate on public.derived_data_bars
  for each statement execute function public._agg_log_dirty();
