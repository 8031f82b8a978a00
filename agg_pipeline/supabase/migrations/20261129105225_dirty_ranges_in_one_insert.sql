-- dirty ranges in one insert: _agg_log_dirty.
-- Written by `make migration` from supabase/schemas, where the reasons are. Needs: all migrations before it.
-- Repeat: yes. Undo: the same objects as the version before has them.
set local lock_timeout = '10s';

CREATE OR REPLACE FUNCTION public._agg_log_dirty()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO ''
AS $function$
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
  -- The end of time is in no window: its range is empty, and range_agg leaves it out.
  insert into public.agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
  select touched.canonical_symbol, touched.timeframe, lower(run), upper(run)
    from (select w.canonical_symbol, w.timeframe, range_agg(tstzrange(w.from_utc, w.from_utc + w.length)) as runs
            from (select b.canonical_symbol, t.timeframe, t.length, date_bin(t.length, b.ts_utc, t.origin_utc) as from_utc
                    from (select canonical_symbol, timeframe, ts_utc from changed
                          union all
                          select m.canonical_symbol, m.timeframe, m.from_utc from unnest(moved) m) b
                    join public.agg_timeframes t on t.source_timeframe = b.timeframe
                  offset 0) w  -- so that date_bin is computed once a row
           group by 1, 2) touched, unnest(touched.runs) run;
  return null;
end $function$;

-- By hand: the triggers give the changed rows one name. They wait for whoever writes bars, and hold writers up until the
-- file is applied.
create or replace trigger agg_dirty_on_insert after insert on public.data_bars
  referencing new table as changed for each statement execute function public._agg_log_dirty();
create or replace trigger agg_dirty_on_update after update on public.data_bars
  referencing old table as old_rows new table as changed for each statement execute function public._agg_log_dirty();
create or replace trigger agg_dirty_on_delete after delete on public.data_bars
  referencing old table as changed for each statement execute function public._agg_log_dirty();
create or replace trigger agg_dirty_on_insert after insert on public.derived_data_bars
  referencing new table as changed for each statement execute function public._agg_log_dirty();
create or replace trigger agg_dirty_on_update after update on public.derived_data_bars
  referencing old table as old_rows new table as changed for each statement execute function public._agg_log_dirty();
create or replace trigger agg_dirty_on_delete after delete on public.derived_data_bars
  referencing old table as changed for each statement execute function public._agg_log_dirty();

notify pgrst, 'reload schema';
