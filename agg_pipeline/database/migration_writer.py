"""Write the next migration file: what leads from a database of all migrations to one of supabase/schemas.

Functions, views, comments and grants are written. Tables, types, indexes, constraints, triggers and moves of data are
listed for the developer to write, since the catalogue does not say what becomes of the rows. A file can be applied
again to a database that has it.
"""

import datetime as dt
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import LiteralString

from agg_pipeline.database.catalogue import ROLES, Catalogue, Difference, Fact, differences, read_catalogue
from agg_pipeline.database.connection import connect, set_local, transaction
from agg_pipeline.database.migrate import MIGRATIONS, migrations

TOPIC = re.compile(r"(?!fn_)[a-z][a-z0-9]*(_[a-z0-9]+)*")
"""Not fn_: squawk reads files of that name without asking for a lock_timeout, which every file written here sets."""

_WRITTEN = ("function", "view", "comment", "grant")
# In the order of creation, which is that of schema_paths.
_DEFINITIONS: LiteralString = """
select 'function', format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)),
       rtrim(pg_get_functiondef(p.oid), E'\\n'), p.oid
  from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind in ('f', 'p')
union all
select 'view', format('%I', c.relname), format('create or replace view public.%I%s as', c.relname,
         ' with (' || array_to_string(c.reloptions, ', ') || ')') || E'\\n' || rtrim(pg_get_viewdef(c.oid), ';'), c.oid
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
 order by 4"""
_EMPTY_VIEWS: LiteralString = """
select format('%I', c.relname), format('create or replace view public.%I%s as select %s', c.relname,
         ' with (' || array_to_string(c.reloptions, ', ') || ')',
         string_agg(format('null::%s as %I', format_type(a.atttypid, a.atttypmod), a.attname), ', ' order by a.attnum))
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
 where c.relnamespace = 'public'::regnamespace and c.relkind = 'v' group by c.oid, c.relname, c.reloptions"""
_VIEWS_ON: LiteralString = """
select distinct format('%I', v.relname),
       case when p.oid is null then format('%I', c.relname)
            else format('%I(%s)', p.proname, oidvectortypes(p.proargtypes)) end
  from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
  join pg_class v on v.oid = r.ev_class and v.relnamespace = 'public'::regnamespace
  left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
  left join pg_class c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid and c.relkind = 'v'
 where d.refobjid <> v.oid and coalesce(p.oid, c.oid) is not null"""
_GRANT = re.compile(r"(?P<privilege>\w+) on (?P<kind>\w+) (?P<name>.+) to (?P<role>\w+)")


@dataclass
class Draft:
    """A migration before it is a file.

    Attributes:
        statements: SQL, in order, without semicolons.
        changed: names of the functions and views that it makes, changes or drops.
        by_hand: what the developer has to write.
    """

    statements: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    by_hand: list[Difference] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.statements or self.by_hand)


def draft_migration(before_dsn: str, after_dsn: str) -> Draft:
    """Compare the database of all migrations with that of the schemas."""
    with connect(before_dsn) as before, connect(after_dsn) as after, transaction(before), transaction(after):
        has, wants = read_catalogue(before), read_catalogue(after)
        for connection in (before, after):
            set_local(connection, search_path="")
        views_on = before.execute(_VIEWS_ON).fetchall()
        empty_views: dict[str, str] = dict(after.execute(_EMPTY_VIEWS).fetchall())
        definitions = after.execute(_DEFINITIONS).fetchall()
    draft = Draft()
    objects: list[Difference] = []
    rest: list[Difference] = []
    for difference in differences(has, wants):
        kind, identity = difference.fact
        if kind not in _WRITTEN or (kind == "grant" and " on column " in identity):
            draft.by_hand.append(difference)
        else:
            (objects if kind in ("function", "view") else rest).append(difference)

    dropped = {d.fact for d in objects if d.before is not None and not _is_replaceable(d)}
    # A view that stays is emptied instead of dropped, so that views which a user has made of it live on.
    emptied = {
        view
        for view, on in views_on
        if (Fact("function", on) in dropped or Fact("view", on) in dropped)
        and Fact("view", view) in wants
        and Fact("view", view) not in dropped
    }
    draft.statements += [empty_views[view] for view in sorted(emptied)]
    draft.statements += _drops(dropped, wants)
    made = {d.fact for d in objects if d.after is not None}
    new = {fact for fact in made if fact in dropped or fact not in has}
    for kind, identity, definition, _ in definitions:
        fact = Fact(kind, identity)
        if fact in made or (kind == "view" and identity in emptied):
            draft.statements.append(definition)
        if fact in new:
            draft.statements += _belongings(fact, wants)
    draft.statements += _rest(rest, new, has, wants)
    draft.changed = [identity.partition("(")[0] for _, identity in sorted(dropped | made)]
    draft.changed = list(dict.fromkeys(draft.changed))
    return draft


def _drops(dropped: set[Fact], wants: Catalogue) -> list[str]:
    """One statement a kind, for the objects may need each other.

    Functions that are dropped for good stand apart, so that `make gates` (squawk) warns of them: their callers fail.
    """
    names = {fact.identity.partition("(")[0] for fact in wants if fact.kind == "function"}
    views = [fact.identity for fact in sorted(dropped) if fact.kind == "view"]
    functions = [fact.identity for fact in sorted(dropped) if fact.kind == "function"]
    anew = [identity for identity in functions if identity.partition("(")[0] in names]
    gone = [identity for identity in functions if identity not in anew]
    return [
        f"{start} if exists {', '.join(f'public.{identity}' for identity in identities)}"
        for start, identities in (
            ("drop view", views),
            ("-- squawk-ignore ban-drop-function\ndrop function", anew),
            ("drop function", gone),
        )
        if identities
    ]


def _is_replaceable(difference: Difference) -> bool:
    """Whether `create or replace` can do it: the same arguments and result; of a view, columns added at the end."""
    if difference.before is None or difference.after is None:
        return False
    before, after = difference.before.splitlines(), difference.after.splitlines()
    if difference.fact.kind == "function":
        return before[:2] == after[:2]
    return (after[1] + ", ").startswith(before[1] + ", ")


def _belongings(fact: Fact, wants: Catalogue) -> list[str]:
    """Comment and grants of an object that is made anew. What it is given by default differs between projects."""
    comment = wants.get(Fact("comment", f"{fact.kind} {fact.identity}"))
    kind = "function" if fact.kind == "function" else "table"
    statements = [_comment(f"{fact.kind} {fact.identity}", comment)] if comment else []
    statements.append(f"revoke all on {kind} public.{fact.identity} from {ROLES}")
    for other, value in sorted(wants.items()):
        if other.kind == "grant" and f" on {kind} {fact.identity} to " in other.identity:
            statements.append(_grant(other.identity, value))
    return statements


def _rest(rest: list[Difference], new: set[Fact], has: Catalogue, wants: Catalogue) -> list[str]:
    """Comments and grants of objects that are there, or that the developer makes."""
    statements: list[str] = []
    closed: set[str] = set()
    for difference in rest:
        kind, identity = difference.fact
        if kind == "comment":
            owner = Fact(*identity.split(" ", 1))
            if owner not in new and (difference.after is not None or owner in wants):
                statements.append(_comment(identity, difference.after))
            continue
        match = _GRANT.fullmatch(identity)
        assert match is not None, identity  # noqa: S101 - written by read_catalogue
        on, name = match["kind"], match["name"]
        owners = [Fact("view", name), Fact("table", name)] if on == "table" else [Fact(on, name)]
        if any(owner in new for owner in owners) or not any(owner in wants for owner in owners):
            continue
        if not any(owner in has for owner in owners) and name not in closed:
            closed.add(name)
            statements.append(f"revoke all on {on} public.{name} from {ROLES}")
        if difference.after is None:
            statements.append(f"revoke {match['privilege'].lower()} on {on} public.{name} from {match['role']}")
        else:
            statements.append(_grant(identity, difference.after))
    return statements


def _grant(identity: str, option: str) -> str:
    match = _GRANT.fullmatch(identity)
    assert match is not None, identity  # noqa: S101 - written by read_catalogue
    grant = f"grant {match['privilege'].lower()} on {match['kind']} public.{match['name']} to {match['role']}"
    return f"{grant} {option}".rstrip()


def _comment(identity: str, comment: str | None) -> str:
    kind, name = identity.split(" ", 1)
    text = "null" if comment is None else "'" + comment.replace("'", "''") + "'"
    return f"comment on {kind} public.{name} is {text}"


def write_migration(topic: str, draft: Draft, folder: Path = MIGRATIONS, now: dt.datetime | None = None) -> Path:
    """Write a draft as the newest file of the folder.

    Raises:
        ValueError: the topic is none.
    """
    if not TOPIC.fullmatch(topic):
        raise ValueError(f"{topic!r} is no topic: use lower case letters, digits and _, and no fn_ at the start")
    newest = max((migration.version for migration in migrations(folder)), default="0")
    version = max(f"{now or dt.datetime.now(dt.UTC):%Y%m%d%H%M%S}", str(int(newest) + 1))
    names = ", ".join(draft.changed) or "comments and grants"
    lines = [
        f"-- {topic.replace('_', ' ')}: {names}.",
        "-- Written by `make migration` from supabase/schemas, where the reasons are. Needs: all migrations before it.",
        "-- Repeat: yes. Undo: the same objects as the version before has them.",
        "set local lock_timeout = '10s';",
        "",
    ]
    if draft.by_hand:
        lines += ["-- To be written here by hand, so that it may be repeated:"]
        lines += [f"--   {line}" for difference in draft.by_hand for line in str(difference).splitlines()]
        lines += [""]
    for statement in draft.statements:
        lines += [f"{statement};", *([""] if "\n" in statement else [])]
    lines += ["notify pgrst, 'reload schema';"]
    path = folder / f"{version}_{topic}.sql"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
