-- partition bars: data_bars or derived_data_bars becomes a table partitioned by month; what it held until then becomes its
-- first partition, untouched, whatever its size.
-- Called by: agg-pipeline partition, which prepares the table, calls this in one transaction, and drops the function.
-- Needs: the migrations; a valid check (ts_utc < p_until_utc) and a unique index <table>_id_ts_utc on (id, ts_utc).
-- Repeat: refused for a table that is partitioned. Undo: detach <table>_before_YYYYMM, insert the rows of the other
-- partitions into it, rename it.
--
-- Nothing is copied, so that the lock is held for milliseconds. All that hangs on the table moves to the new one: indexes,
-- constraints, triggers, grants, row security, the sequence of its ids, views on it and functions that return its rows.
create function public._agg_partition_switch(p_table text, p_until_utc timestamptz) returns void
language plpgsql set search_path = '' set timezone = 'UTC' as $$
declare
  bars constant regclass := format('public.%I', p_table);
  suffix constant text := to_char(p_until_utc, '"_before_"YYYYMM');
  moved constant text := p_table || suffix;
  old pg_catalog.pg_class;
  statements text[] := '{}';  -- to be run when the new table is there
  obstacle text;
  it record;
begin
  -- As a query does, the views first and then what they read: else a query that has the view waits for the table, and we,
  -- who have the table, for the view.
  for it in select distinct r.ev_class::regclass as name
              from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid
              join pg_catalog.pg_class v on v.oid = r.ev_class and v.relkind = 'v'
             where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refobjid = bars order by 1 loop
    execute format('lock table %s in access exclusive mode', it.name);
  end loop;
  execute format('lock table %s in access exclusive mode', bars);
  select * into old from pg_catalog.pg_class where oid = bars;
  if old.relkind = 'p' then
    raise exception '% is partitioned already', p_table using errcode = 'AG003', hint = 'There is nothing to do.';
  end if;
  select string_agg(what, ', ') into obstacle from (
    select format('policy %I', polname) from pg_catalog.pg_policy where polrelid = bars
    union all select format('foreign key %I of %s', conname, conrelid::regclass) from pg_catalog.pg_constraint where confrelid = bars
    union all select format('publication %I', p.pubname) from pg_catalog.pg_publication_rel r
                join pg_catalog.pg_publication p on p.oid = r.prpubid where r.prrelid = bars
    union all select format('materialized view %s', r.ev_class::regclass) from pg_catalog.pg_depend d
                join pg_catalog.pg_rewrite r on r.oid = d.objid join pg_catalog.pg_class c on c.oid = r.ev_class
               where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refobjid = bars and c.relkind <> 'v') x (what);
  if obstacle is not null then
    raise exception '% has what cannot be carried over: %', p_table, obstacle using errcode = 'AG003',
      hint = 'Drop it, partition the table, and make it again.';
  end if;

  -- Definitions, while the table still has its name.
  for it in select c.conname, pg_catalog.pg_get_constraintdef(c.oid) as def, c.contype from pg_catalog.pg_constraint c
             where c.conrelid = bars and c.contype in ('u', 'f', 'c') and c.conname <> p_table || '_until' loop
    statements := statements || format('alter table public.%I add constraint %I %s', p_table, it.conname, it.def);
    if it.contype = 'u' then
      execute format('alter table %s rename constraint %I to %I', bars, it.conname, left(it.conname, 48) || suffix);
    end if;
  end loop;
  for it in select i.relname, pg_catalog.pg_get_indexdef(i.oid) as def from pg_catalog.pg_index x
              join pg_catalog.pg_class i on i.oid = x.indexrelid
             where x.indrelid = bars and i.relname <> p_table || '_id_ts_utc'
               and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.oid and c.contype in ('p', 'u')) loop
    statements := statements || it.def;
    execute format('alter index public.%I rename to %I', it.relname, left(it.relname, 48) || suffix);
  end loop;
  for it in select tgname, pg_catalog.pg_get_triggerdef(oid) as def from pg_catalog.pg_trigger
             where tgrelid = bars and not tgisinternal loop
    statements := statements || it.def;
    execute format('drop trigger %I on %s', it.tgname, bars);
  end loop;
  for it in select distinct v.oid, v.oid::regclass as name, pg_catalog.pg_get_viewdef(v.oid) as def, v.reloptions
              from pg_catalog.pg_depend d join pg_catalog.pg_rewrite r on r.oid = d.objid
              join pg_catalog.pg_class v on v.oid = r.ev_class
             where d.classid = 'pg_catalog.pg_rewrite'::regclass and d.refobjid = bars loop
    statements := statements || format('create or replace view %s %s as %s', it.name,
      coalesce('with (' || array_to_string(it.reloptions, ', ') || ')', ''), it.def);
  end loop;
  for it in select f.oid::regprocedure as name, pg_catalog.pg_get_functiondef(f.oid) as def, f.proacl,
                   pg_catalog.obj_description(f.oid, 'pg_proc') as about
              from pg_catalog.pg_proc f where old.reltype in (f.prorettype) or old.reltype = any (f.proargtypes::oid[]) loop
    statements := statements || it.def || format('revoke all on function %s from public, anon, authenticated, service_role', it.name);
    statements := statements || array(
      select format('grant execute on function %s to %s', it.name, case a.grantee when 0 then 'public' else a.grantee::regrole::text end)
        from aclexplode(it.proacl) a);
    if it.about is not null then
      statements := statements || format('comment on function %s is %L', it.name, it.about);
    end if;
    execute format('drop function %s', it.name);
  end loop;
  statements := statements || format('revoke all on table public.%I from public, anon, authenticated, service_role', p_table);
  statements := statements || array(
    select format('grant %s on table public.%I to %s%s', a.privilege_type, p_table,
                  case a.grantee when 0 then 'public' else a.grantee::regrole::text end,
                  case when a.is_grantable then ' with grant option' else '' end)
      from aclexplode(old.relacl) a where a.grantee <> old.relowner);
  if old.relrowsecurity then
    statements := statements || format('alter table public.%I enable row level security', p_table);
  end if;

  -- The old table makes room, the new one takes its place.
  execute format('alter table %s rename to %I', bars, moved);
  execute format('alter table public.%I drop constraint %I', moved,
    (select conname from pg_catalog.pg_constraint where conrelid = bars and contype = 'p'));
  execute format('alter table public.%I add constraint %I primary key using index %I', moved, moved || '_pkey', p_table || '_id_ts_utc');
  execute format('create table public.%I (like public.%I including defaults including comments including storage, '
                 'constraint %I primary key (id, ts_utc)) partition by range (ts_utc)', p_table, moved, p_table || '_pkey');
  execute format('alter table public.%I owner to %s', p_table, old.relowner::regrole);
  execute format('alter sequence %s owned by public.%I.id', pg_catalog.pg_get_serial_sequence('public.' || moved, 'id'), p_table);
  execute format('comment on table public.%I is %L', p_table, pg_catalog.obj_description(bars, 'pg_class'));
  foreach obstacle in array statements loop
    execute obstacle;
  end loop;
  execute format('revoke all on table public.%I from public, anon, authenticated, service_role', moved);
  execute format('alter table public.%I attach partition public.%I for values from (minvalue) to (%L)', p_table, moved, p_until_utc);
  execute format('alter table public.%I drop constraint %I', moved, p_table || '_until');
  execute format('create table public.%I partition of public.%I default', p_table || '_other', p_table);
  execute format('alter table public.%I enable row level security', p_table || '_other');
  execute format('revoke all on table public.%I from public, anon, authenticated, service_role', p_table || '_other');
  perform public.agg_partitions_ahead(3, p_until_utc);
end $$;
