-- dirty ranges: which windows of which task a change of source rows has touched.
-- Called by: triggers on both bars tables write; _agg_catch_up consumes. Needs: bars, timeframes, types.
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
-- changed: the rows as they are now, or as they were where they are gone; the triggers name them so.
create function public._agg_log_dirty() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  seen integer;
  moved public.agg_range[];
begin
  if tg_op = 'TRUNCATE' then  -- names no rows: all that the tasks have built is in doubt
    insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
    select canonical_symbol, timeframe, agg_start_utc, last_agg_bar_ts_utc
      from public.data_agg_state where agg_start_utc < last_agg_bar_ts_utc;
    return null;
  end if;
  -- An upsert fires the triggers of insert and update, one of them mostly without rows, and many ingesters write row by
  -- row: there, what follows would cost more than all else that they do.
  seen := (select count(*) from (select from changed limit 2) first_two);
  if seen = 0 then
    return null;
  end if;
  -- An update may have moved rows out of windows. Of many rows only the moved ones are looked for: mostly none.
  if tg_op = 'UPDATE' and seen = 1 then
    moved := array(select (b.canonical_symbol, b.timeframe, b.ts_utc, null)::public.agg_range from old_rows b);
  elsif tg_op = 'UPDATE' then
    moved := array(select (b.canonical_symbol, b.timeframe, b.ts_utc, null)::public.agg_range
                     from (select canonical_symbol, timeframe, ts_utc from old_rows
                           except
                           select canonical_symbol, timeframe, ts_utc from changed) b);
  end if;
  -- Rows outside of the centuries that agg_source_bars takes are in no window. Their times may break date_bin, and with it
  -- the whole statement of the ingester.
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
  select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
    from (select w.canonical_symbol, w.timeframe, range_agg(tstzrange(w.from_utc, w.from_utc + w.length)) as runs
            from (select b.canonical_symbol, t.timeframe, t.length, date_bin(t.length, b.ts_utc, t.origin_utc) as from_utc
                    from (select canonical_symbol, timeframe, ts_utc from changed
                          union all
                          select m.canonical_symbol, m.timeframe, m.from_utc from unnest(moved) m) b
                    join public.agg_timeframes t on t.source_timeframe = b.timeframe
                   where b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00'
                  offset 0) w  -- so that date_bin is computed once a row
           group by 1, 2) touched, unnest(touched.runs) run;
  return null;
end $$;
comment on function public._agg_log_dirty() is 'Trigger: logs the windows that changed source rows touch, for every consumer.';
revoke execute on function public._agg_log_dirty() from public, anon, authenticated, service_role;

create trigger agg_dirty_on_insert after insert on public.data_bars
  referencing new table as changed for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_update after update on public.data_bars
  referencing old table as old_rows new table as changed for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_delete after delete on public.data_bars
  referencing old table as changed for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_truncate after truncate on public.data_bars
  for each statement execute function public._agg_log_dirty();

create trigger agg_dirty_on_insert after insert on public.derived_data_bars
  referencing new table as changed for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_update after update on public.derived_data_bars
  referencing old table as old_rows new table as changed for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_delete after delete on public.derived_data_bars
  referencing old table as changed for each statement execute function public._agg_log_dirty();
create trigger agg_dirty_on_truncate after truncate on public.derived_data_bars
  for each statement execute function public._agg_log_dirty();
