-- sync_agg_state_from_registry, agg_register_asset: which tasks there are.
-- Called by: agg_get_due_tasks at each tick, AggGateway.sync, register_asset. Needs: asset_registry, timeframes,
-- agg_state, isolation.

create function public._agg_env_active(p_env_name text, p_active boolean, p_test_active boolean)
returns boolean language sql immutable set search_path = '' as $$
  select coalesce(case when upper(p_env_name) in ('DEV', 'TEST') then p_test_active
                       when p_env_name is not null then p_active end, false)
$$;
revoke execute on function public._agg_env_active(text, boolean, boolean) from public, anon, authenticated, service_role;

-- The tasks that the active assets of an environment lack: every rung of the ladder above the base timeframe, less those
-- that are there and those that a registry column calc_<timeframe> switches off.
create function public._agg_missing_tasks(p_env_name text, p_symbols text[])
returns table (canonical_symbol text, timeframe text, source_timeframe text, minutes integer)
language sql stable set search_path = '' as $$
with recursive asset as materialized (
  select a.canonical_symbol,
         coalesce(a.base_timeframe, case a.ingest_class when 'B' then '5m' else '1m' end) as base_timeframe
    from public.core_asset_registry_all a
    -- Asked once, not for every row.
   cross join (select public._agg_env_active(p_env_name, true, false) as active,
                      public._agg_env_active(p_env_name, false, true) as test) served
   where (a.active and served.active or a.test_active and served.test)
     and (p_symbols is null or a.canonical_symbol = any (p_symbols))
), ladder (base_timeframe, timeframe) as (
  select t.source_timeframe, t.timeframe
    from public.agg_timeframes t where t.source_timeframe in (select base_timeframe from asset)
  union
  select l.base_timeframe, t.timeframe
    from ladder l join public.agg_timeframes t on t.source_timeframe = l.timeframe
), missing as materialized (
  select a.canonical_symbol, l.timeframe from asset a join ladder l on l.base_timeframe = a.base_timeframe
  except
  select s.canonical_symbol, s.timeframe from public.data_agg_state s
)
select m.canonical_symbol, t.timeframe, t.source_timeframe, t.minutes
  from missing m
  join public.agg_timeframes t on t.timeframe = m.timeframe
  join public.core_asset_registry_all a on a.canonical_symbol = m.canonical_symbol
 cross join lateral (select to_jsonb(a) as columns) r
 where coalesce((r.columns ->> ('calc_' || m.timeframe))::boolean, not r.columns ? ('calc_' || m.timeframe))
$$;
revoke execute on function public._agg_missing_tasks(text, text[]) from public, anon, authenticated, service_role;

create function public._agg_sync_symbols(p_env_name text, p_symbols text[], p_agg_start_utc timestamptz)
returns jsonb language plpgsql volatile set search_path = '' set timezone = 'UTC' as $$
declare
  created integer;
  repaired integer;
begin
  insert into public.data_agg_state (canonical_symbol, timeframe, source_timeframe, run_interval_minutes,
                                     aggregation_delay_seconds, is_mandatory, agg_start_utc)
  select m.canonical_symbol, m.timeframe, m.source_timeframe, m.minutes, 30, true, p_agg_start_utc
    from public._agg_missing_tasks(p_env_name, p_symbols) m
  on conflict do nothing;
  get diagnostics created = row_count;
  if created > 1000 then  -- whoever looks for what is due next must not plan for an empty table
    analyze public.core_asset_registry_all, public.data_agg_state;
  end if;
  -- Only what follows from the ladder; whatever an operator may set stays.
  update public.data_agg_state s
     set source_timeframe = t.source_timeframe, run_interval_minutes = t.minutes
    from public.agg_timeframes t
   where t.timeframe = s.timeframe and t.source_timeframe is not null
     and (p_symbols is null or s.canonical_symbol = any (p_symbols))
     and (s.source_timeframe, s.run_interval_minutes) is distinct from (t.source_timeframe, t.minutes);
  get diagnostics repaired = row_count;
  -- Nobody consumes these. A task that is created later starts from its first window and reads their rows then.
  delete from public.agg_dirty_ranges d
   where not exists (select from public.data_agg_state s
                      where s.canonical_symbol = d.canonical_symbol and s.timeframe = d.timeframe);
  return jsonb_build_object('success', true, 'tasks_created', created, 'tasks_updated', repaired, 'tasks_disabled', 0,
                            'timestamp_utc', now(), 'env', p_env_name, 'agg_start_utc', p_agg_start_utc);
end $$;
revoke execute on function public._agg_sync_symbols(text, text[], timestamptz) from public, anon, authenticated, service_role;

create function public._agg_try_sync(p_items jsonb, p_arguments jsonb)
returns jsonb language sql volatile set search_path = '' as $$
  select jsonb_build_array(public._agg_sync_symbols(p_arguments ->> 'env', public._agg_symbols(p_items),
                                                    (p_arguments ->> 'agg_start_utc')::timestamptz))
$$;
revoke execute on function public._agg_try_sync(jsonb, jsonb) from public, anon, authenticated, service_role;

-- All symbols; "failed" has a fault for each task of those for which the database raised an error.
create function public._agg_sync(p_env_name text, p_agg_start_utc timestamptz)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  isolated record;
begin
  begin
    return public._agg_sync_symbols(p_env_name, null, p_agg_start_utc);
  exception when others then
    if public._agg_is_general(sqlstate) then
      raise;
    end if;
  end;
  select * into isolated from public._agg_isolate('sync', 'select public._agg_try_sync($1, $2)', (
    select jsonb_agg(jsonb_build_object('canonical_symbol', a.canonical_symbol) order by a.canonical_symbol)
      from public.core_asset_registry_all a), jsonb_build_object('env', p_env_name, 'agg_start_utc', p_agg_start_utc));
  return public._agg_sync_symbols(p_env_name, '{}', p_agg_start_utc)
         || (select jsonb_build_object('tasks_created', coalesce(sum((r ->> 'tasks_created')::integer), 0),
                                       'tasks_updated', coalesce(sum((r ->> 'tasks_updated')::integer), 0))
               from jsonb_array_elements(isolated.results) r)
         || jsonb_build_object('failed', (
    select jsonb_agg(f || jsonb_build_object('timeframe', task.timeframe))
      from jsonb_array_elements(isolated.faults) f
     cross join lateral (
        select m.timeframe from public._agg_missing_tasks(p_env_name, array[f ->> 'canonical_symbol']) m
        union
        select s.timeframe from public.data_agg_state s where s.canonical_symbol = f ->> 'canonical_symbol') task));
end $$;
revoke execute on function public._agg_sync(text, timestamptz) from public, anon, authenticated, service_role;

create function public.sync_agg_state_from_registry(
  p_env_name text default 'prod', p_agg_start_utc timestamptz default '2025-07-01 00:00:00+00')
returns jsonb language sql volatile security definer set search_path = '' as $$
  select public._agg_sync(p_env_name, p_agg_start_utc)
$$;
comment on function public.sync_agg_state_from_registry(text, timestamptz) is
  'Creates the tasks that active assets lack (starting at p_agg_start_utc, UTC) and repairs what follows from the ladder; never what an operator set.';
revoke execute on function public.sync_agg_state_from_registry(text, timestamptz) from public, anon, authenticated;
grant execute on function public.sync_agg_state_from_registry(text, timestamptz) to service_role;

-- C0, DEL, C1; marks and overrides of direction; line and paragraph separator. Trimmed of what Unicode counts as blank.
create function public._agg_is_symbol(p_symbol text)
returns boolean language sql immutable set search_path = '' as $$
  select length(p_symbol) between 1 and 100
     and p_symbol !~ '[\u0001-\u001F\u007F-\u009F\u061C\u200E\u200F\u2028-\u202E\u2066-\u2069]'
     and p_symbol !~ '^[ \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]|[ \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000]$'
$$;
comment on function public._agg_is_symbol(text) is
  'True for 1 to 100 characters without control and direction-changing characters and without outer blanks.';
revoke execute on function public._agg_is_symbol(text) from public, anon, authenticated, service_role;

create function public.agg_register_asset(
  p_symbol text, p_agg_start_utc timestamptz, p_base_timeframe text default '1m', p_asset_class text default null)
returns jsonb language plpgsql volatile security definer set search_path = '' set timezone = 'UTC' as $$
declare
  asset public.core_asset_registry_all;
  registered boolean;
  synced jsonb;
begin
  if p_symbol is null or not public._agg_is_symbol(p_symbol)
     -- Whoever was registered by another rule stays.
     and not exists (select from public.core_asset_registry_all where canonical_symbol = p_symbol) then
    raise exception '% is no symbol', coalesce(to_jsonb(left(p_symbol, 200))::text, 'null') using errcode = 'AG003',
      hint = 'A symbol has 1 to 100 characters, no control or direction-changing character, and no blank at either end.';
  elsif p_agg_start_utc is null or p_agg_start_utc not between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' then
    raise exception 'tasks of % cannot start at %', p_symbol, coalesce(p_agg_start_utc::text, 'null') using errcode = 'AG003',
      hint = 'p_agg_start_utc is where its first windows start, UTC, between 1900 and 2200.';
  elsif not exists (select from public.agg_timeframes where source_timeframe = p_base_timeframe) then
    raise exception 'nothing is built from base timeframe %', coalesce(p_base_timeframe, 'null') using errcode = 'AG003',
      hint = 'Base timeframes: ' || (select string_agg(distinct source_timeframe, ', ') from public.agg_timeframes) || '.';
  end if;
  insert into public.core_asset_registry_all (canonical_symbol, base_timeframe, asset_class, active, test_active)
  values (p_symbol, p_base_timeframe, p_asset_class, true, true)
  on conflict (canonical_symbol) do nothing;
  registered := found;
  select * into asset from public.core_asset_registry_all where canonical_symbol = p_symbol;
  if coalesce(asset.base_timeframe, '1m') <> p_base_timeframe then
    raise exception '% is registered with base timeframe %, not %', p_symbol, asset.base_timeframe, p_base_timeframe
      using errcode = 'AG003', hint = 'Load bars of its base timeframe, or change the registry first.';
  end if;
  synced := public._agg_sync_symbols(case when asset.active then 'prod' else 'test' end, array[p_symbol], p_agg_start_utc);
  return synced || jsonb_build_object('registered', registered, 'agg_start_utc', (
         select min(agg_start_utc) from public.data_agg_state where canonical_symbol = p_symbol));
end $$;
comment on function public.agg_register_asset(text, timestamptz, text, text) is
  'Registers an asset if it is new and creates its tasks; existing tasks keep their start. AG003: bad or differing base timeframe.';
revoke execute on function public.agg_register_asset(text, timestamptz, text, text) from public, anon, authenticated;
grant execute on function public.agg_register_asset(text, timestamptz, text, text) to service_role;
