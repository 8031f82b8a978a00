-- isolation: what one task breaks in a call for many tasks, it breaks for itself alone.
-- Called by: every function that works on many tasks in one statement. Needs: tasks, task_calls.
--
-- A value, a user's own trigger or constraint, or an impossible row of data_agg_state can make a statement fail that
-- concerns thousands of tasks. Such a statement is tried for all of them first, which costs nothing. If it fails, it is
-- tried for halves, down to the tasks that fail alone; the others keep what they got.

-- No foreign key and no state row needed: it also holds faults of tasks that could not be created.
create table public.agg_task_faults (
  canonical_symbol text not null,
  timeframe text not null,
  phase text not null,
  sqlstate text not null,
  message text not null,
  hint text,
  failures integer not null default 1,
  first_at timestamptz not null default now(),
  last_at timestamptz not null default now(),
  primary key (canonical_symbol, timeframe)
);
alter table public.agg_task_faults enable row level security;
revoke all on table public.agg_task_faults from public, anon, authenticated, service_role;
grant select on table public.agg_task_faults to service_role;
comment on table public.agg_task_faults is
  'Tasks that a phase of the tick (sync, recovery, due, start, finish) left out since the database raised an error for them. A row goes when the phase succeeds again.';

-- 08 connection, 40 conflict, 53 resources, 55 lock, 57 operator, 58 system, XX internal: the caller repeats the whole call.
create function public._agg_is_general(p_sqlstate text)
returns boolean language sql immutable set search_path = '' as $$
  select p_sqlstate ~ '^(08|40|53|55|57|58|XX)'
$$;
comment on function public._agg_is_general(text) is 'True if an error concerns the whole database, not one task.';
revoke execute on function public._agg_is_general(text) from public, anon, authenticated, service_role;

-- The task (or the symbol, without timeframe) with its error as _agg_refuse makes it.
create function public._agg_fault(p_phase text, p_task jsonb, p_sqlstate text, p_message text, p_hint text)
returns jsonb language sql stable set search_path = '' set timezone = 'UTC' as $$
  select jsonb_build_object('canonical_symbol', p_task ->> 'canonical_symbol', 'timeframe', p_task ->> 'timeframe')
         || public._agg_refuse(p_sqlstate,
              format('%s of %s failed%s: %s', p_phase, concat_ws('/', p_task ->> 'canonical_symbol', p_task ->> 'timeframe'),
                     ' at the window of ' || s.last_agg_bar_ts_utc, p_message),
              coalesce(
                case when not t.is_possible then format(
                  'data_agg_state says that its cursor is %s, its start %s and its next run %s; agg-pipeline repair --apply '
                  'mends all but the start.', s.last_agg_bar_ts_utc, s.agg_start_utc, coalesce(s.next_run_at::text, 'at once')) end,
                nullif(p_hint, ''),
                case when p_sqlstate = '22003'
                     then 'trade_count of a window sums to more than an integer holds; correct it in data_bars' end,
                'Only this task is left out. Correct what the message names; the next tick tries again.'))
    from (select) one
    left join public.data_agg_state s
      on s.canonical_symbol = p_task ->> 'canonical_symbol' and s.timeframe = p_task ->> 'timeframe'
    left join public.agg_tasks t on t.canonical_symbol = s.canonical_symbol and t.timeframe = s.timeframe
$$;
revoke execute on function public._agg_fault(text, jsonb, text, text, text) from public, anon, authenticated, service_role;

-- p_call is the text of a query over $1, a part of p_items, and $2, p_arguments; it returns an array of results or null.
create function public._agg_isolate(p_phase text, p_call text, p_items jsonb, p_arguments jsonb, out results jsonb, out faults jsonb)
language plpgsql volatile set search_path = '' as $$
declare
  parts int4range[] := array[int4range(0, coalesce(jsonb_array_length(p_items), 0))];
  part int4range;
  middle integer;
  done jsonb;
  message text;
  hint text;
begin
  results := '[]';
  faults := '[]';
  while cardinality(parts) > 0 loop
    part := parts[cardinality(parts)];
    parts := trim_array(parts, 1);
    continue when isempty(part);
    begin
      execute p_call into done using (
        select jsonb_agg(e.item order by e.nth) from jsonb_array_elements(p_items) with ordinality e (item, nth)
         where part @> (e.nth - 1)::integer), p_arguments;
      results := results || coalesce(done, '[]');
    exception when others then
      if public._agg_is_general(sqlstate) then
        raise;
      end if;
      middle := (lower(part) + upper(part)) / 2;
      if middle > lower(part) then
        parts := parts || int4range(middle, upper(part)) || int4range(lower(part), middle);
      else
        get stacked diagnostics message = message_text, hint = pg_exception_hint;
        faults := faults || public._agg_fault(p_phase, p_items -> lower(part), sqlstate, message, hint);
      end if;
    end;
  end loop;
end $$;
comment on function public._agg_isolate(text, text, jsonb, jsonb) is
  'Runs p_call for all p_items or, where that fails, for as many as it works for: their results, and a fault for each other.';
revoke execute on function public._agg_isolate(text, text, jsonb, jsonb) from public, anon, authenticated, service_role;

create function public._agg_record_faults(p_phase text, p_faults jsonb, p_now_utc timestamptz)
returns void language sql volatile set search_path = '' as $$
  insert into public.agg_task_faults as old (canonical_symbol, timeframe, phase, sqlstate, message, hint, first_at, last_at)
  select f ->> 'canonical_symbol', f ->> 'timeframe', p_phase, f #>> '{error,sqlstate}', f #>> '{error,message}',
         f #>> '{error,hint}', p_now_utc, p_now_utc
    from jsonb_array_elements(p_faults) f
  on conflict (canonical_symbol, timeframe) do update
     set phase = excluded.phase, sqlstate = excluded.sqlstate, message = excluded.message, hint = excluded.hint,
         failures = old.failures + 1, last_at = excluded.last_at
$$;
revoke execute on function public._agg_record_faults(text, jsonb, timestamptz) from public, anon, authenticated, service_role;

create function public._agg_fault_reason(p_fault public.agg_task_faults)
returns text language sql immutable set search_path = '' as $$
  select case when p_fault.message is not null then format('%s (%s, %s times since %s). %s', p_fault.message, p_fault.sqlstate,
           p_fault.failures, to_char(p_fault.first_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), p_fault.hint) end
$$;
revoke execute on function public._agg_fault_reason(public.agg_task_faults) from public, anon, authenticated, service_role;

-- For calls that take a list of tasks: one result per task, in order; a fault is the error of its result and is recorded.
-- p_call gets each task once; what is named twice, or not at all, it gets only if nothing fails.
create function public._agg_each_task(p_phase text, p_call text, p_tasks jsonb, p_arguments jsonb, p_now_utc timestamptz)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  done jsonb;
  isolated record;
begin
  begin
    execute p_call into done using p_tasks, p_arguments;
    return coalesce(done, '[]');
  exception when others then
    if public._agg_is_general(sqlstate) or sqlstate like 'AG%' then
      raise;
    end if;
  end;
  select * into isolated from public._agg_isolate(p_phase, p_call, (
    select jsonb_agg(a.task order by a.nth) from public._agg_asked(p_tasks) a
     where not a.repeated and a.canonical_symbol is not null and a.timeframe is not null), p_arguments);
  perform public._agg_record_faults(p_phase, isolated.faults, p_now_utc);
  return (
    select jsonb_agg(coalesce(r.result, jsonb_build_object('canonical_symbol', a.canonical_symbol, 'timeframe', a.timeframe)
             || public._agg_refusal(a.canonical_symbol, a.timeframe, a.repeated, null, null, p_now_utc)) order by a.nth)
      from public._agg_asked(p_tasks) a
      left join jsonb_array_elements(isolated.results || isolated.faults) r (result)
        on not a.repeated and r.result ->> 'canonical_symbol' = a.canonical_symbol and r.result ->> 'timeframe' = a.timeframe);
end $$;
revoke execute on function public._agg_each_task(text, text, jsonb, jsonb, timestamptz) from public, anon, authenticated, service_role;

-- PostgreSQL computes with an infinite cursor without an error, and the task would never be due and never be seen.
create function public._agg_impossible(p_phase text, p_symbols text[])
returns jsonb language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(public._agg_fault(p_phase, jsonb_build_object('canonical_symbol', t.canonical_symbol, 'timeframe', t.timeframe),
                                              '22008', 'its cursor, start or next run is no time between 1900 and 2200', null)), '[]')
    from public.agg_tasks t where not t.is_possible and (p_symbols is null or t.canonical_symbol = any (p_symbols))
$$;
comment on function public._agg_impossible(text, text[]) is 'A fault for each task whose windows cannot be counted.';
revoke execute on function public._agg_impossible(text, text[]) from public, anon, authenticated, service_role;

-- For calls that read the tasks of many symbols. p_call takes items with or without a timeframe.
create function public._agg_find_faults(p_phase text, p_call text, p_arguments jsonb, p_symbols text[], p_by text)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  impossible constant jsonb := public._agg_impossible(p_phase, p_symbols);
  items jsonb;
  faults jsonb;
begin
  if p_by = 'known' then  -- the cheapest: it mostly ends here, with none or with the same as before
    select jsonb_agg(jsonb_build_object('canonical_symbol', f.canonical_symbol, 'timeframe', f.timeframe)) into items
      from public.agg_task_faults f
      join public.agg_tasks t on t.canonical_symbol = f.canonical_symbol and t.timeframe = f.timeframe and t.is_possible
     where p_symbols is null or f.canonical_symbol = any (p_symbols);
    return impossible || (public._agg_isolate(p_phase, p_call, items, p_arguments)).faults;
  end if;
  select jsonb_agg(jsonb_build_object('canonical_symbol', s.symbol)) into items
    from (select distinct canonical_symbol as symbol from public.data_agg_state order by 1) s
   where p_symbols is null or s.symbol = any (p_symbols);
  faults := (public._agg_isolate(p_phase, p_call, items, p_arguments)).faults;
  select jsonb_agg(f || jsonb_build_object('timeframe', t.timeframe)) into items
    from jsonb_array_elements(faults) f
    join public.agg_tasks t on t.canonical_symbol = f ->> 'canonical_symbol' and t.is_possible;
  -- By symbol: each of its tasks, with what the symbol as a whole was refused for.
  return impossible || case p_by when 'symbol' then coalesce(items, '[]')
                                 else (public._agg_isolate(p_phase, p_call, items, p_arguments)).faults end;
end $$;
comment on function public._agg_find_faults(text, text, jsonb, text[], text) is
  'Tasks for which p_call fails: p_by known (of those in agg_task_faults), task (of all, alone) or symbol (all tasks of the symbols that it fails for). Those of _agg_impossible are always among them.';
revoke execute on function public._agg_find_faults(text, text, jsonb, text[], text) from public, anon, authenticated, service_role;

-- Keys as _agg_due and _agg_health_of leave them out; null: nothing to leave out.
create function public._agg_keys(p_faults jsonb)
returns jsonb language sql immutable set search_path = '' as $$
  select jsonb_object_agg((f ->> 'canonical_symbol') || '/' || (f ->> 'timeframe'), true) from jsonb_array_elements(p_faults) f
$$;
revoke execute on function public._agg_keys(jsonb) from public, anon, authenticated, service_role;

create function public._agg_symbols(p_items jsonb)
returns text[] language sql immutable set search_path = '' as $$
  select array_agg(distinct i ->> 'canonical_symbol') from jsonb_array_elements(p_items) i
$$;
revoke execute on function public._agg_symbols(jsonb) from public, anon, authenticated, service_role;

-- Null if the items are symbols.
create function public._agg_timeframes_of(p_items jsonb)
returns text[] language sql immutable set search_path = '' as $$
  select array_agg(distinct i ->> 'timeframe') filter (where i ->> 'timeframe' is not null) from jsonb_array_elements(p_items) i
$$;
revoke execute on function public._agg_timeframes_of(jsonb) from public, anon, authenticated, service_role;
