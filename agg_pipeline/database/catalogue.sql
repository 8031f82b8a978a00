-- catalogue: what schema public is made of, as rows (kind, identity, value); catalogue.py says what that is for.
-- Run with an empty search_path, so that every name outside of pg_catalog is written with its schema.
with relation as materialized (
  select c.*, format('%I', c.relname) as name from pg_class c
   where c.relnamespace = 'public'::regnamespace and not c.relispartition
     and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
), routine as materialized (
  select p.*, format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)) as name from pg_proc p
   where p.pronamespace = 'public'::regnamespace
     and not exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')
), attribute as materialized (
  select r.name as relation, r.relkind, a.*, format('%s.%I', r.name, a.attname) as name, format_type(a.atttypid, a.atttypmod) as type
    from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
), type as materialized (
  select t.*, format('%I', t.typname) as name from pg_type t left join pg_class c on c.oid = t.typrelid
   where t.typnamespace = 'public'::regnamespace and t.typcategory <> 'A' and coalesce(c.relkind, 'c') = 'c'
     and not exists (select from pg_depend e where e.classid = 'pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')
), creator as (  -- whose default privileges count: the role that applies migrations
  select r.oid from pg_roles r where r.rolname = current_user
), held as (
  select 'grant' as kind, format('%s %s', case r.relkind when 'S' then 'sequence' else 'table' end, r.name) as object,
         coalesce(r.relacl, acldefault(case r.relkind when 'S' then 's' else 'r' end::"char", r.relowner)) as acl
    from relation r where r.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  union all
  select 'grant', 'column ' || a.name, a.attacl from attribute a where a.attacl is not null
  union all
  select 'grant', 'function ' || p.name, coalesce(p.proacl, acldefault('f', p.proowner)) from routine p
  union all
  select 'default privilege', named.kind, coalesce(d.defaclacl, acldefault(replace(named.code, 'S', 's')::"char", creator.oid))
    from creator cross join (values ('r', 'tables'), ('S', 'sequences'), ('f', 'functions')) named (code, kind)
    left join pg_default_acl d on d.defaclrole = creator.oid and d.defaclnamespace = 0 and d.defaclobjtype::text = named.code
  union all
  select 'default privilege', named.kind || ' in schema public', d.defaclacl
    from creator join pg_default_acl d on d.defaclrole = creator.oid and d.defaclnamespace = 'public'::regnamespace
    join (values ('r', 'tables'), ('S', 'sequences'), ('f', 'functions')) named (code, kind) on named.code = d.defaclobjtype::text
), described as (
  select 'pg_proc'::regclass as classid, p.oid, 0 as subid, 'function ' || p.name as object from routine p
  union all
  select 'pg_class'::regclass, r.oid, 0,
         case r.relkind when 'v' then 'view ' when 'i' then 'index ' when 'S' then 'sequence ' else 'table ' end || r.name
    from relation r where r.relkind in ('r', 'p', 'v', 'i', 'I', 'S')
  union all
  select 'pg_class'::regclass, a.attrelid, a.attnum, 'column ' || a.name from attribute a
  union all
  select 'pg_type'::regclass, t.oid, 0, 'type ' || t.name from type t
)
select 'function' as kind, p.name as identity,
       concat_ws(E'\n', 'arguments: ' || pg_get_function_arguments(p.oid),
         'returns: ' || coalesce(pg_get_function_result(p.oid), p.prokind::text),
         format('%s, volatility %s, parallel %s, strict %s, leakproof %s, security definer %s, cost %s, rows %s',
                l.lanname, p.provolatile, p.proparallel, p.proisstrict, p.proleakproof, p.prosecdef, p.procost, p.prorows),
         'set ' || array_to_string(array(select unnest(p.proconfig) order by 1), ', '), p.prosrc) as value
  from routine p join pg_language l on l.oid = p.prolang
union all
select 'view', r.name, concat_ws(E'\n', 'options: ' || coalesce(array_to_string(r.reloptions, ', '), ''),
         'columns: ' || (select string_agg(format('%I %s', a.attname, a.type), ', ' order by a.attnum) from attribute a where a.attrelid = r.oid),
         pg_get_viewdef(r.oid))
  from relation r where r.relkind in ('v', 'm')
union all
select 'table', r.name, format('kind %s, persistence %s, options %s', r.relkind, r.relpersistence,
         array(select unnest(r.reloptions) order by 1))
  from relation r where r.relkind in ('r', 'p')
union all
select 'column', a.name, concat_ws(', ', a.type, case when a.attnotnull then 'not null' end,
         case when a.attgenerated::text <> '' then 'generated ' else 'default ' end || pg_get_expr(d.adbin, d.adrelid),
         'identity ' || nullif(a.attidentity::text, ''))
  from attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum where a.relkind in ('r', 'p')
union all
-- Not null is a fact of the column; only PostgreSQL 18 has a constraint for it besides.
select 'constraint', format('%I on %s', k.conname, r.name),
       pg_get_constraintdef(k.oid) || case when k.convalidated then '' else ' not valid' end
  from pg_constraint k join relation r on r.oid = k.conrelid and r.relkind in ('r', 'p') where k.contype in ('c', 'f', 'p', 'u', 'x')
union all
select 'index', r.name, pg_get_indexdef(r.oid) || case when i.indisvalid then '' else ' invalid' end
  from pg_index i join relation r on r.oid = i.indexrelid
 where not exists (select from pg_constraint k where k.conindid = r.oid and k.contype in ('p', 'u', 'x'))
union all
select 'trigger', format('%I on %s', t.tgname, r.name),
       pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' else ' enabled ' || t.tgenabled::text end
  from pg_trigger t join relation r on r.oid = t.tgrelid where not t.tgisinternal
union all
select 'row security', r.name,
       case when r.relrowsecurity then 'on' else 'off' end || case when r.relforcerowsecurity then ', forced' else '' end
  from relation r where r.relkind in ('r', 'p')
union all
select 'policy', format('%I on %s', y.polname, r.name), format('%s, permissive %s, to %s, using %s, check %s', y.polcmd, y.polpermissive,
         array(select member::regrole::text from unnest(y.polroles) member order by 1),
         pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid))
  from pg_policy y join relation r on r.oid = y.polrelid
union all
-- The owner's grants are no facts, nor are those of roles that a user has made. MAINTAIN is new in PostgreSQL 17.
select held.kind, format('%s on %s to %s', acl.privilege_type, held.object, role.name),
       case when acl.is_grantable then 'with grant option' else '' end
  from held cross join aclexplode(held.acl) acl
 cross join lateral (select case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end as name) role
 where role.name in ('public', 'anon', 'authenticated', 'service_role') and acl.privilege_type <> 'MAINTAIN'
union all
select 'comment', o.object, d.description
  from described o join pg_description d on d.classoid = o.classid and d.objoid = o.oid and d.objsubid = o.subid
union all
select 'type', t.name, case t.typtype
         when 'e' then (select string_agg(quote_literal(l.enumlabel), ', ' order by l.enumsortorder) from pg_enum l where l.enumtypid = t.oid)
         when 'c' then (select string_agg(format('%I %s', a.attname, a.type), ', ' order by a.attnum) from attribute a where a.attrelid = t.typrelid)
         else concat_ws(' ', t.typtype::text, format_type(t.typbasetype, t.typtypmod), t.typdefault) end
  from type t
union all
select 'sequence', r.name, format('%s from %s by %s, %s to %s, cycle %s, of %s', format_type(s.seqtypid, null), s.seqstart, s.seqincrement,
         s.seqmin, s.seqmax, s.seqcycle,
         (select a.name from pg_depend d join attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
           where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.deptype in ('a', 'i')))
  from pg_sequence s join relation r on r.oid = s.seqrelid
