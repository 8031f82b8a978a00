"""The catalogue of schema public as facts that can be compared: what kind, which object, what it is.

Two databases whose facts are equal behave alike. Objects of extensions and partitions are left out, since neither is
ours; so is the order of a table's columns, which differs between a new and an upgraded database and means nothing.
Facts of the kinds in STABLE read the same on PostgreSQL 15 to 18; definitions of views and the like are deparsed, and
compare within one major version only.
"""

import difflib
from typing import LiteralString, NamedTuple

import psycopg
from psycopg.rows import tuple_row


class Fact(NamedTuple):
    """What a fact is about: its kind (function, grant, ...) and the object, named as in SQL without the schema."""

    kind: str
    identity: str


Catalogue = dict[Fact, str]

STABLE = ("function", "view", "trigger", "row security", "grant")
"""Kinds that read the same on every supported version of PostgreSQL."""

ROLES: LiteralString = "public, anon, authenticated, service_role"
"""Whose grants are facts. The owner's are not, nor are those of roles that a user has made."""

_ROLE_NAME: LiteralString = "case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end"
# MAINTAIN is new in PostgreSQL 17, and comes with `grant all`.
_OF_ROLES: LiteralString = (
    f"{_ROLE_NAME} = any (string_to_array('{ROLES}', ', ')) and acl.privilege_type <> 'MAINTAIN'"
)
_IN_PUBLIC: LiteralString = """relnamespace = 'public'::regnamespace and not c.relispartition and not exists (
    select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')"""
_FUNCTION_IN_PUBLIC: LiteralString = """p.pronamespace = 'public'::regnamespace and not exists (
    select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e')"""

# One query a kind: identity and what it is. search_path is empty, so that every name but those of pg_catalog is whole.
_QUERIES: dict[str, LiteralString] = {
    "function": f"""
        select format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)),
               concat_ws(E'\\n', 'arguments: ' || pg_get_function_arguments(p.oid),
                 'returns: ' || coalesce(pg_get_function_result(p.oid), p.prokind::text),
                 format('%s, volatility %s, parallel %s, strict %s, leakproof %s, security definer %s, cost %s, rows %s',
                        l.lanname, p.provolatile, p.proparallel, p.proisstrict, p.proleakproof, p.prosecdef, p.procost, p.prorows),
                 'set ' || array_to_string(array(select unnest(p.proconfig) order by 1), ', '), p.prosrc)
          from pg_proc p join pg_language l on l.oid = p.prolang where {_FUNCTION_IN_PUBLIC}""",
    "view": f"""
        select c.relname, concat_ws(E'\\n', 'options: ' || coalesce(array_to_string(c.reloptions, ', '), ''),
                 'columns: ' || (select string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
                    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
                 pg_get_viewdef(c.oid))
          from pg_class c where c.relkind in ('v', 'm') and c.{_IN_PUBLIC}""",
    "table": f"""
        select c.relname, format('persistence %s, kind %s, options %s', c.relpersistence, c.relkind,
                 (select array_agg(o order by o) from unnest(c.reloptions) o))
          from pg_class c where c.relkind in ('r', 'p') and c.{_IN_PUBLIC}""",
    "column": f"""
        select format('%I.%I', c.relname, a.attname),
               concat_ws(', ', format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
                 case when a.attgenerated::text <> '' then 'generated ' else 'default ' end || pg_get_expr(d.adbin, d.adrelid),
                 'identity ' || nullif(a.attidentity::text, ''))
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where c.relkind in ('r', 'p') and c.{_IN_PUBLIC}""",
    # Not null is a fact of the column; only PostgreSQL 18 has a constraint for it, too.
    "constraint": f"""
        select format('%I on %I', k.conname, c.relname),
               pg_get_constraintdef(k.oid) || case when k.convalidated then '' else ' not valid' end
          from pg_constraint k join pg_class c on c.oid = k.conrelid
         where k.contype in ('c', 'f', 'p', 'u', 'x') and c.relkind in ('r', 'p') and c.{_IN_PUBLIC}""",
    "index": f"""
        select c.relname, pg_get_indexdef(c.oid) || case when i.indisvalid then '' else ' invalid' end
          from pg_index i join pg_class c on c.oid = i.indexrelid where c.{_IN_PUBLIC}
           and not exists (select from pg_constraint k where k.conindid = c.oid and k.contype in ('p', 'u', 'x'))""",
    "trigger": f"""
        select format('%I on %I', t.tgname, c.relname),
               pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' else ' enabled ' || t.tgenabled::text end
          from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal and c.{_IN_PUBLIC}""",
    "row security": f"""
        select c.relname, case when c.relrowsecurity then 'on' else 'off' end || case when c.relforcerowsecurity then ', forced' else '' end
          from pg_class c where c.relkind in ('r', 'p') and c.{_IN_PUBLIC}""",
    "policy": f"""
        select format('%I on %I', y.polname, c.relname), format('%s, permissive %s, to %s, using %s, check %s', y.polcmd, y.polpermissive,
                 array(select r::regrole::text from unnest(y.polroles) r order by 1),
                 pg_get_expr(y.polqual, y.polrelid), pg_get_expr(y.polwithcheck, y.polrelid))
          from pg_policy y join pg_class c on c.oid = y.polrelid where c.{_IN_PUBLIC}""",
    "grant": f"""
        select format('%s on %s %s to %s', acl.privilege_type, held.kind, held.name, {_ROLE_NAME}),
               case when acl.is_grantable then 'with grant option' else '' end
          from (select case c.relkind when 'S' then 'sequence' else 'table' end as kind, format('%I', c.relname) as name,
                       coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner)) as acl
                  from pg_class c where c.relkind in ('r', 'p', 'v', 'm', 'S') and c.{_IN_PUBLIC}
                union all
                select 'column', format('%I.%I', c.relname, a.attname), a.attacl
                  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attacl is not null
                 where c.relkind in ('r', 'p', 'v', 'm') and c.{_IN_PUBLIC}
                union all
                select 'function', format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)),
                       coalesce(p.proacl, acldefault('f', p.proowner))
                  from pg_proc p where {_FUNCTION_IN_PUBLIC}) held
         cross join aclexplode(held.acl) acl where {_OF_ROLES}""",
    # What the role that applies migrations gives away with each object that it creates.
    "default privilege": f"""
        select format('%s on %s%s to %s', acl.privilege_type, case held.kind when 'r' then 'tables' when 'S' then 'sequences'
                        else 'functions' end, held.place, {_ROLE_NAME}),
               case when acl.is_grantable then 'with grant option' else '' end
          from (select kind, '' as place, coalesce(d.defaclacl, acldefault(replace(kind, 'S', 's')::"char", me.oid)) as acl
                  from unnest(array['r', 'S', 'f']) kind cross join (select oid from pg_roles where rolname = current_user) me
                  left join pg_default_acl d on d.defaclrole = me.oid and d.defaclnamespace = 0 and d.defaclobjtype::text = kind
                union all
                select d.defaclobjtype::text, ' in schema public', d.defaclacl from pg_default_acl d
                 where d.defaclrole::regrole::text = quote_ident(current_user) and d.defaclnamespace = 'public'::regnamespace
                   and d.defaclobjtype in ('r', 'S', 'f')) held
         cross join aclexplode(held.acl) acl where {_OF_ROLES}""",
    "comment": f"""
        select o.identity, d.description
          from (select 'pg_proc'::regclass as classid, p.oid as objid, 0 as subid,
                       format('function %I(%s)', p.proname, oidvectortypes(p.proargtypes)) as identity
                  from pg_proc p where {_FUNCTION_IN_PUBLIC}
                union all
                select 'pg_class'::regclass, c.oid, 0, format('%s %I', case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
                         when 'i' then 'index' when 'I' then 'index' when 'S' then 'sequence' else 'table' end, c.relname)
                  from pg_class c where c.relkind <> 'c' and c.{_IN_PUBLIC}
                union all
                select 'pg_class'::regclass, c.oid, a.attnum, format('column %I.%I', c.relname, a.attname)
                  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped where c.{_IN_PUBLIC}
                union all
                select 'pg_type'::regclass, t.oid, 0, format('type %I', t.typname)
                  from pg_type t where t.typnamespace = 'public'::regnamespace) o
          join pg_description d on d.classoid = o.classid and d.objoid = o.objid and d.objsubid = o.subid""",
    "type": """
        select t.typname, case t.typtype
                 when 'e' then (select string_agg(quote_literal(l.enumlabel), ', ' order by l.enumsortorder)
                                  from pg_enum l where l.enumtypid = t.oid)
                 when 'c' then (select string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' order by a.attnum)
                                  from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)
                 else concat_ws(' ', t.typtype::text, format_type(t.typbasetype, t.typtypmod), t.typdefault) end
          from pg_type t left join pg_class c on c.oid = t.typrelid
         where t.typnamespace = 'public'::regnamespace and t.typcategory <> 'A' and coalesce(c.relkind, 'c') = 'c'
           and not exists (select from pg_depend e where e.classid = 'pg_type'::regclass and e.objid = t.oid and e.deptype = 'e')""",
    "sequence": f"""
        select c.relname, format('%s from %s by %s, %s to %s, cycle %s, of %s', format_type(s.seqtypid, null), s.seqstart, s.seqincrement,
                 s.seqmin, s.seqmax, s.seqcycle, (select format('%s.%I', d.refobjid::regclass, a.attname) from pg_depend d
                   join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                  where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i')))
          from pg_sequence s join pg_class c on c.oid = s.seqrelid where c.{_IN_PUBLIC}""",
}  # fmt: skip


def read_catalogue(connection: psycopg.Connection[object], kinds: tuple[str, ...] = tuple(_QUERIES)) -> Catalogue:
    """Facts of the given kinds. Reads only, in a transaction of its own or in the one that is open."""
    found: Catalogue = {}
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        before = cursor.execute("select current_setting('search_path')").fetchone()
        cursor.execute("select set_config('search_path', '', true)")
        for kind in kinds:
            for identity, value in cursor.execute(_QUERIES[kind]):
                found[Fact(kind, identity)] = value
        cursor.execute("select set_config('search_path', %s, true)", before)
    return found


class Difference(NamedTuple):
    """One fact of two catalogues; None: there is no such object."""

    fact: Fact
    before: str | None
    after: str | None

    def __str__(self) -> str:
        what = f"{self.fact.kind} {self.fact.identity}"
        if self.after is None:
            return f"{what}: is gone"
        if self.before is None:
            return f"{what}: is new"
        lines = difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=0)
        return "\n    ".join([f"{what}: differs", *[line for line in lines if line[:2] not in ("--", "++", "@@")]])


def differences(before: Catalogue, after: Catalogue) -> list[Difference]:
    """What turns one catalogue into the other, ordered by kind and object."""
    facts = sorted(before.keys() | after.keys())
    return [Difference(f, before.get(f), after.get(f)) for f in facts if before.get(f) != after.get(f)]
