-- agg_load_bars: put raw bars into data_bars.
-- Called by: AggGateway.load_bars (agg-pipeline load). Needs: bars, asset_registry, isolation.

-- p_symbols: {canonical_symbol, bars: [...]} each.
create function public._agg_load_symbols(p_symbols jsonb, p_arguments jsonb)
returns jsonb language plpgsql volatile set search_path = '' as $$
declare
  inserted bigint;
  updated bigint;
begin
  with written as (
    insert into public.data_bars as old (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
                                         is_partial, source, ingested_at, raw)
    select b.canonical_symbol, p_arguments ->> 'timeframe', b.ts_utc, b.open, b.high, b.low, b.close, b.vol, b.vwap, b.trade_count,
           coalesce(b.is_partial, false), p_arguments ->> 'source', now(), '{}'
      from jsonb_array_elements(p_symbols) s
     cross join jsonb_to_recordset(s -> 'bars') b (
             canonical_symbol text, ts_utc timestamptz, open float8, high float8, low float8,
             close float8, vol float8, vwap float8, trade_count integer, is_partial boolean)
     -- In the order of the key: two writers that meet in the same rows wait for each other, and never both.
     order by b.canonical_symbol, b.ts_utc
    on conflict (canonical_symbol, timeframe, ts_utc) do update
       set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
           vwap = excluded.vwap, trade_count = excluded.trade_count, is_partial = excluded.is_partial, ingested_at = now()
     where (old.open, old.high, old.low, old.close, old.vol, old.vwap, old.trade_count, old.is_partial) is distinct from
           (excluded.open, excluded.high, excluded.low, excluded.close, excluded.vol, excluded.vwap, excluded.trade_count,
            excluded.is_partial)
    returning old.xmax = 0 as fresh
  )
  select count(*) filter (where fresh), count(*) filter (where not fresh) into inserted, updated from written;
  return jsonb_build_array(jsonb_build_object('inserted', inserted, 'updated', updated));
end $$;
revoke execute on function public._agg_load_symbols(jsonb, jsonb) from public, anon, authenticated, service_role;

create function public.agg_load_bars(p_bars jsonb, p_timeframe text default '1m', p_source text default 'file')
returns jsonb language plpgsql volatile security definer set search_path = '' as $$
declare
  arguments constant jsonb := jsonb_build_object('timeframe', p_timeframe, 'source', p_source);
  nameless bigint;
  unknown text;
  isolated record;
  inserted bigint;
  updated bigint;
  failed_bars bigint;
begin
  if p_bars is null or jsonb_typeof(p_bars) <> 'array' then
    raise exception 'a list of bars is needed, not %', coalesce(jsonb_typeof(p_bars), 'null') using errcode = 'AG003',
      hint = 'Pass a JSON array of {canonical_symbol, ts_utc, open, high, low, close, vol, vwap, trade_count}.';
  end if;
  select min(nth) into nameless from jsonb_array_elements(p_bars) with ordinality e (b, nth)
   where b ->> 'canonical_symbol' is null or b ->> 'ts_utc' is null;
  if nameless is not null then
    raise exception 'bar % of the list has no canonical_symbol or no ts_utc', nameless using errcode = 'AG003',
      hint = 'Name both in every bar.';
  end if;
  select string_agg(distinct b ->> 'canonical_symbol', ', ') into unknown from jsonb_array_elements(p_bars) b
   where not exists (select from public.core_asset_registry_all a where a.canonical_symbol = b ->> 'canonical_symbol');
  if unknown is not null then
    raise exception 'unknown symbol: %', unknown using errcode = 'AG002', hint = 'Register it with agg_register_asset.';
  end if;
  begin
    select public._agg_load_symbols(jsonb_build_array(jsonb_build_object('bars', p_bars)), arguments) as results, '[]'::jsonb as faults
      into isolated;
  exception when others then
    if public._agg_is_general(sqlstate) then
      raise;
    end if;
    isolated := null;
  end;
  if isolated is null then  -- by symbol, so that what the database refuses of one costs only its bars
    select * into isolated from public._agg_isolate('load', 'select public._agg_load_symbols($1, $2)', (
      select jsonb_agg(jsonb_build_object('canonical_symbol', s.symbol, 'bars', s.bars) order by s.symbol)
        from (select b ->> 'canonical_symbol' as symbol, jsonb_agg(b order by nth) as bars
                from jsonb_array_elements(p_bars) with ordinality e (b, nth) group by 1) s), arguments);
    if isolated.results = '[]' then
      perform public._agg_raise(isolated.faults -> 0);
    end if;
  end if;
  select coalesce(sum((r ->> 'inserted')::bigint), 0), coalesce(sum((r ->> 'updated')::bigint), 0) into inserted, updated
    from jsonb_array_elements(isolated.results) r;
  select count(*) into failed_bars from jsonb_array_elements(p_bars) b
   where isolated.faults <> '[]' and exists (select from jsonb_array_elements(isolated.faults) f
                                              where f -> 'canonical_symbol' = b -> 'canonical_symbol');
  return jsonb_build_object('inserted', inserted, 'updated', updated,
                            'unchanged', jsonb_array_length(p_bars) - failed_bars - inserted - updated)
         || case when failed_bars > 0 then jsonb_build_object('failed_bars', failed_bars, 'failed', isolated.faults) else '{}' end;
end $$;
comment on function public.agg_load_bars(jsonb, text, text) is
  'Upserts raw bars [{canonical_symbol, ts_utc, open, high, low, close, vol, vwap, trade_count}, ...]; {inserted, updated, unchanged} and, if the database refused the bars of a symbol, failed_bars and failed: [{canonical_symbol, error: {sqlstate, message, hint}}]. AG002: symbol not registered; AG003: no list of bars.';
revoke execute on function public.agg_load_bars(jsonb, text, text) from public, anon, authenticated;
grant execute on function public.agg_load_bars(jsonb, text, text) to service_role;
