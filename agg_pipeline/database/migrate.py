"""Apply the SQL files of supabase/migrations over a database URL, each once, in the order of their names.

Recorded in the table that the Supabase CLI uses (supabase_migrations.schema_migrations), so that `supabase db push` and
this command can be mixed: neither applies what the other has.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from agg_pipeline.database.connection import SESSION_PORT, Connection, connect, first_line, needs_session, transaction
from agg_pipeline.database.fingerprints import PATH as FINGERPRINTS
from agg_pipeline.database.fingerprints import load as load_fingerprints
from agg_pipeline.database.gateway import CONTRACT

MIGRATIONS = Path(__file__).parents[1] / "supabase" / "migrations"
# Until the end of the transaction: through a pooler a lock of the session would stay with whoever gets it next.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('agg_pipeline migrations', 0))"

_RECORDS = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text primary key, statements text[], name text)"""
_IS_RECORDED = "select from supabase_migrations.schema_migrations where version = %s"
# What `create or replace` refuses with where an older file meets what a newer one has made.
_NOT_REPLACEABLE = (psycopg.errors.InvalidFunctionDefinition, psycopg.errors.InvalidTableDefinition)
_BUILT_ON = """
with recursive doomed as (
  select 'function' as kind, p.oid::regprocedure::text as name, p.oid from pg_proc p
   where p.pronamespace = 'public'::regnamespace and p.proname = any (%(functions)s)
     and p.prorettype <> 'trigger'::regtype
  union
  select 'view', v.oid::regclass::text, v.oid from pg_class v
   where v.relnamespace = 'public'::regnamespace and v.relname = any (%(views)s) and v.relkind = 'v'
  union
  select 'view', v.oid::regclass::text, v.oid
    from doomed join pg_depend d on d.refobjid = doomed.oid and d.classid = 'pg_rewrite'::regclass
    join pg_rewrite r on r.oid = d.objid
    join pg_class v on v.oid = r.ev_class and v.relnamespace = 'public'::regnamespace and v.relname = any (%(ours)s)
)
select kind, name from doomed"""
_DEFINES = re.compile(r"^create (?:or replace )?(function|view) public\.(\w+)", re.IGNORECASE | re.MULTILINE)


class MigrationError(RuntimeError):
    """A migration could not be applied. The message names the file, what became of the database, and what to do."""


@dataclass(frozen=True)
class Migration:
    """One file: ``<version>_<topic>.sql``."""

    version: str
    topic: str
    path: Path


def migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All migrations, oldest first."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        version, _, topic = path.stem.partition("_")
        found.append(Migration(version, topic, path))
    return found


def defined_functions(folder: Path = MIGRATIONS) -> set[str]:
    """Names of the functions that any migration has ever made."""
    return set().union(*(_defined(migration.path.read_text(encoding="utf-8"))[0] for migration in migrations(folder)))


def migrate(
    dsn: str,
    *,
    on_apply: Callable[[Migration], None] = lambda _: None,
    folder: Path = MIGRATIONS,
    again: bool = False,
) -> list[Migration]:
    """Apply what is not applied yet, one transaction per file; two deploys at once take turns, file by file.

    Args:
        dsn: database URL of the owner of schema public (on Supabase: the user postgres).
        on_apply: called before each file, in its transaction.
        again: apply all files, also those that are recorded, in one transaction: for when somebody changed functions,
            triggers or grants by hand, or ran older SQL over them.
    Returns:
        What this call applied. Whatever another one applies at the same time is applied when this call returns, too.
    Raises:
        MigrationError: the database cannot be reached, is newer than this package, was migrated with other texts of
            these files, or a file failed. A file that failed changed nothing, and with ``again`` no file did.
    """
    files = migrations(folder)
    with _session(dsn) as connection:
        if again:
            with transaction(connection):
                connection.execute(_LOCK)
                connection.execute(_RECORDS)
                _refuse_newer(connection)
                for migration in files:
                    with _naming(migration):
                        on_apply(migration)
                        _apply(connection, migration, files)
                _drop_overloads(connection, folder.parent / FINGERPRINTS.name)
            return files
        with transaction(connection):
            connection.execute(_LOCK)
            connection.execute(_RECORDS)
            rows = connection.execute("select version, statements from supabase_migrations.schema_migrations")
            recorded: dict[str, list[str] | None] = dict(rows.fetchall())
        _refuse_changed(files, recorded)
        applied = []
        for migration in files:
            if migration.version in recorded:
                continue
            with _naming(migration), transaction(connection):
                connection.execute(_LOCK)
                if connection.execute(_IS_RECORDED, [migration.version]).fetchone() is not None:
                    continue  # by another one, since we looked
                on_apply(migration)
                _apply(connection, migration, files)
            applied.append(migration)
    return applied


@contextlib.contextmanager
def _session(dsn: str) -> Iterator[Connection]:
    """A connection whose failures are raised as MigrationError."""
    try:
        connection = connect(dsn)
    except psycopg.Error as exc:
        remedy = SESSION_PORT if needs_session(exc) else "Check the database URL."
        raise MigrationError(f"The database cannot be reached: {first_line(exc)}. {remedy}") from None
    try:
        with connection:
            yield connection
    except psycopg.Error as exc:
        remedy = SESSION_PORT if needs_session(exc) else "Mend the cause and run `agg-pipeline migrate` again."
        raise MigrationError(f"The migration failed: {exc.sqlstate} {first_line(exc)}. {remedy}") from None


@contextlib.contextmanager
def _naming(migration: Migration) -> Iterator[None]:
    """Raise failures of the driver as a MigrationError that names the file."""
    try:
        yield
    except psycopg.Error as exc:
        if needs_session(exc):
            raise
        where = f" Hint: {exc.diag.message_hint}." if exc.diag.message_hint else ""
        if isinstance(exc, psycopg.errors.DependentObjectsStillExist):  # the hint is to drop what a user has made
            where = f" {exc.diag.message_detail}." if exc.diag.message_detail else ""
        raise MigrationError(
            f"{migration.path.name} failed: {exc.sqlstate} {first_line(exc)}.{where} "
            "It changed nothing; mend the cause and run `agg-pipeline migrate` again."
        ) from None


def _apply(connection: Connection, migration: Migration, files: Iterable[Migration]) -> None:
    """Apply and record one file, in the transaction that is open."""
    text = migration.path.read_text(encoding="utf-8")
    try:
        with connection.transaction():
            connection.execute(text.encode())
    except _NOT_REPLACEABLE:
        _make_way(connection, text, files)
        connection.execute(text.encode())
    connection.execute(
        "insert into supabase_migrations.schema_migrations (version, statements, name) "
        "values (%s, %s, %s) on conflict (version) do update set statements = excluded.statements",
        [migration.version, [text], migration.topic],
    )


def _make_way(connection: Connection, text: str, files: Iterable[Migration]) -> None:
    """Drop what the text of an older file cannot replace; the files after it make it again as it is now.

    These are the file's views and functions, but for functions of triggers, whose shape never changes, and views of
    other files that are built on them. A user's view of one of them stays: PostgreSQL refuses, and names it.
    """
    functions, views = _defined(text)
    ours = set().union(*(_defined(migration.path.read_text(encoding="utf-8"))[1] for migration in files))
    doomed = connection.execute(_BUILT_ON, {"functions": functions, "views": views, "ours": list(ours)}).fetchall()
    for kind in ("view", "function"):  # one statement a kind, for they may need each other
        if names := ", ".join(name for what, name in doomed if what == kind):
            connection.execute(f"drop {kind} {names}".encode())


def _drop_overloads(connection: Connection, of_this_version: Path) -> None:
    """Drop what has the name of a function of this version and other arguments: PostgREST could not choose."""
    if not of_this_version.exists():  # migrations of somebody else
        return
    identities = list(load_fingerprints(of_this_version)["function"])
    connection.execute("select set_config('search_path', '', true)")
    found = connection.execute(
        "select format('%%I.%%I(%%s)', 'public', p.proname, oidvectortypes(p.proargtypes)) from pg_proc p "
        "where p.pronamespace = 'public'::regnamespace and quote_ident(p.proname) = any (%s) "
        "and format('%%I(%%s)', p.proname, oidvectortypes(p.proargtypes)) <> all (%s)",
        [[identity.partition("(")[0] for identity in identities], identities],
    ).fetchall()
    for (signature,) in found:
        connection.execute(f"drop function {signature}".encode())


def _defined(text: str) -> tuple[list[str], list[str]]:
    """Names of the functions and of the views that a file makes."""
    found = [(kind.lower(), name) for kind, name in _DEFINES.findall(text)]
    return [name for kind, name in found if kind == "function"], [name for kind, name in found if kind == "view"]


def _refuse_changed(files: Iterable[Migration], recorded: dict[str, list[str] | None]) -> None:
    """Raise if a file that is recorded as one text reads otherwise now.

    The Supabase CLI records the statements of a file one by one, and of some versions none; those are not compared.
    """
    for migration in files:
        statements = recorded.get(migration.version) or []
        if len(statements) == 1 and _trimmed(statements[0]) != _trimmed(migration.path.read_text(encoding="utf-8")):
            raise MigrationError(
                f"{migration.path.name} is not the file that this database was migrated with: its text differs from "
                "the one in supabase_migrations.schema_migrations. Nothing was changed. A released file never changes: "
                "install this package anew. If the record is what is wrong (an unreleased version wrote it), "
                "`agg-pipeline migrate --again` applies and records every file of this package."
            )


def _trimmed(text: str) -> str:
    """Without what the Supabase CLI leaves out of a file of one statement."""
    return "\n".join(text.split("\r\n")).strip().rstrip(";")


def _refuse_newer(connection: Connection) -> None:
    """Raise if the functions of the database are of a later version: older files would take them back."""
    found = connection.execute("select to_regprocedure('public.agg_contract()') is not null").fetchone()
    if found == (True,):
        contract = connection.execute("select public.agg_contract()").fetchone()
        if contract is not None and contract[0] > CONTRACT:
            raise MigrationError(
                f"The database is newer (contract {contract[0]}) than this package (contract {CONTRACT}). Nothing was "
                "changed. Install the newer package and run its `agg-pipeline migrate --again`."
            )
