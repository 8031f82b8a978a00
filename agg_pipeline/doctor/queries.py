"""Queries for facts, in SQL that works on every state of the predecessor's database."""

_LENGTHS = """(values ('1m', interval '1 minute'), ('5m', interval '5 minutes'), ('15m', interval '15 minutes'),
  ('1h', interval '1 hour'), ('4h', interval '4 hours'), ('1d', interval '24 hours')) tf (timeframe, length)"""

COLUMNS = """
select c.relname as table_name, a.attname as column_name, c.relrowsecurity from pg_class c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any (%s)"""
FUNCTIONS = """
select p.proname, coalesce(p.proargnames[1:p.pronargs], '{}') as arguments, p.prosrc,
       has_function_privilege('anon', p.oid, 'execute')
       or has_function_privilege('authenticated', p.oid, 'execute') as is_open
  from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'"""
GRANTS = """
select c.relname,
       has_table_privilege('anon', c.oid, 'select, insert, update, delete')
       or has_table_privilege('authenticated', c.oid, 'select, insert, update, delete') as is_open,
       array(select kind from unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) kind
              where has_table_privilege('service_role', c.oid, kind)) as service_role
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any (%s)"""
# Triggers of others on tables that only the pipeline writes.
TRIGGERS = """
select format('%I on public.%I', t.tgname, c.relname) as name from pg_trigger t join pg_class c on c.oid = t.tgrelid
 where c.relnamespace = 'public'::regnamespace and c.relname in ('data_agg_state', 'derived_data_bars')
   and not t.tgisinternal and t.tgparentid = 0
   and t.tgname not in ('trg_agg_state_updated_at', 'trg_derived_updated_at')
   and t.tgname not like 'agg\\_dirty\\_on\\_%'
 order by c.relname, 1"""
# Columns that may not exist are read through to_jsonb.
ASSETS = """
select canonical_symbol as symbol, asset_class, coalesce(active, false) or coalesce(test_active, false) as is_active,
       to_jsonb(a) ->> 'trading_calendar' as trading_calendar
  from public.core_asset_registry_all a order by 1"""
TASKS = f"""
select s.canonical_symbol as symbol, s.timeframe, s.source_timeframe, a.base,
       case when possible.is_start then possible.start else '2025-07-01 00:00:00+00' end as start,
       possible.cursor, s.status,
       coalesce((to_jsonb(s) ->> 'enabled')::boolean, true) as enabled,
       case when isfinite(s.running_started_at_utc) then s.running_started_at_utc end as running_since,
       newest.ts_utc as newest, possible.is_start and possible.is_cursor
         and coalesce(s.next_run_at between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00', true) as is_possible,
       not exists (select from public.data_bars b
                    where b.canonical_symbol = s.canonical_symbol and b.timeframe = a.base
                      and b.ts_utc >= possible.cursor and b.ts_utc < possible.cursor + tf.length) as is_empty_at_cursor
  from (select *, coalesce((to_jsonb(s) ->> 'agg_start_utc')::timestamptz, '2025-07-01 00:00:00+00') as start_utc
          from public.data_agg_state s) s
 cross join lateral (
   select s.start_utc as start, s.start_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00' as is_start,
          case when s.last_agg_bar_ts_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00'
               then s.last_agg_bar_ts_utc end as cursor,
          coalesce(s.last_agg_bar_ts_utc between '1900-01-01 00:00:00+00' and '2200-01-01 00:00:00+00', true)
            as is_cursor) possible
  left join (select canonical_symbol,
                    coalesce(base_timeframe, case ingest_class when 'B' then '5m' else '1m' end) as base
               from public.core_asset_registry_all) a on a.canonical_symbol = s.canonical_symbol
  left join {_LENGTHS} on tf.timeframe = s.timeframe
  left join lateral (select b.ts_utc from public.data_bars b
                      where b.canonical_symbol = s.canonical_symbol and b.timeframe = a.base
                         and b.ts_utc between '1900-01-01 00:00:00+00' and now()
                      order by b.ts_utc desc limit 1) newest on true
 order by 1, tf.length"""  # noqa: S608 - no value from outside
# The rule of agg_source_bars, for databases without it; test_damage.py compares the two.
_REASON = """
case when not (b.ts_utc >= '1900-01-01 00:00:00+00' and b.ts_utc < '2200-01-01 00:00:00+00') then 'out of range'
     when b.ts_utc <> date_bin(tf.length, b.ts_utc, '2001-01-01 00:00:00+00') then 'time off the grid'
     when b.open is null or b.high is null or b.low is null or b.close is null then 'price missing'
     when not (greatest(b.open, b.high, b.low, b.close) < 'Infinity'
               and least(b.open, b.high, b.low, b.close) > '-Infinity')
       then 'price not finite'
     when b.high < b.low then 'high below low'
     when b.open not between b.low and b.high then 'open outside low to high'
     when b.close not between b.low and b.high then 'close outside low to high'
     when b.vol < 0 or b.vol >= 'Infinity' then 'volume negative or not finite'
     when b.low < -1e30 or b.high > 1e30 then 'out of range'"""
_INGESTED_REASON = f"""{_REASON}
     when b.vol > 1e30 or abs(b.vwap) > 1e30 and b.vwap not in ('NaN', 'Infinity', '-Infinity')
          or b.trade_count > 1000000000000000 then 'out of range' end"""
_REASON += " end"
INVALID_ROWS = f"""
select 'data_bars' as table, b.canonical_symbol as symbol, b.timeframe, {_INGESTED_REASON} as reason, count(*) as rows
  from public.data_bars b join {_LENGTHS} using (timeframe)
 where b.timeframe in ('1m', '5m') and b.ts_utc >= %(since)s and {_INGESTED_REASON} is not null
 group by 1, 2, 3, 4
union all
select 'derived_data_bars', b.canonical_symbol, b.timeframe, {_REASON}, count(*)
  from public.derived_data_bars b join {_LENGTHS} using (timeframe)
 where b.deleted_at is null and b.timeframe <> '1m' and b.ts_utc >= %(since)s and {_REASON} is not null
 group by 1, 2, 3, 4
union all
select 'derived_data_bars', b.canonical_symbol, b.timeframe, 'raw bar in the wrong table', count(*)
  from public.derived_data_bars b
 where b.deleted_at is null and b.timeframe = '1m' and b.ts_utc >= %(since)s group by 1, 2, 3
union all
select 'derived_data_bars', b.canonical_symbol, b.timeframe, 'live twice', sum(b.n - 1)::bigint
  from (select canonical_symbol, timeframe, count(*) as n from public.derived_data_bars
         where deleted_at is null and ts_utc >= %(since)s and not exists (
               select from pg_indexes where schemaname = 'public' and indexname = 'uq_derived_active_symbol_tf_ts')
         group by canonical_symbol, timeframe, ts_utc having count(*) > 1) b group by 1, 2, 3
 order by 1, 2, 3, 4"""  # noqa: S608 - no value from outside
