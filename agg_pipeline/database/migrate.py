"""Apply the SQL files of supabase/migrations over a database URL, each once, in the order of their names.

Recorded in the table that the Supabase CLI uses (supabase_migrations.schema_migrations), so that `supabase db push` and
this command can be mixed: neither applies what the other has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

MIGRATIONS = Path(__file__).parents[1] / "supabase" / "migrations"
_LOCK = "select pg_advisory_lock(hashtextextended('agg_pipeline migrations', 0))"


class MigrationError(RuntimeError):
    """A migration could not be applied. The message names the file; what came before it stands."""


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


def migrate(
    dsn: str,
    *,
    on_apply: Callable[[Migration], None] = lambda _: None,
    folder: Path = MIGRATIONS,
    again: bool = False,
) -> list[Migration]:
    """Apply what is not applied yet, one transaction per file; two deploys at once take turns.

    Args:
        dsn: database URL of the owner of schema public (on Supabase: the user postgres).
        on_apply: told before each file.
        again: apply all files, also those that are recorded: for when somebody ran older SQL over them.
    Returns:
        What was applied.
    Raises:
        MigrationError: the database cannot be reached, or a file failed; that file changed nothing.
    """
    applied = []
    try:
        connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    except psycopg.Error as exc:
        raise MigrationError(
            f"The database cannot be reached: {str(exc).splitlines()[0]}. Check the database URL."
        ) from None
    with connection:
        connection.execute(_LOCK)  # held until the connection closes
        connection.execute("create schema if not exists supabase_migrations")
        connection.execute(
            "create table if not exists supabase_migrations.schema_migrations "
            "(version text primary key, statements text[], name text)"
        )
        done = {row[0] for row in connection.execute("select version from supabase_migrations.schema_migrations")}
        for migration in migrations(folder):
            if migration.version in done and not again:
                continue
            on_apply(migration)
            text = migration.path.read_text(encoding="utf-8")
            try:
                with connection.transaction():
                    connection.execute(text.encode())
                    connection.execute(
                        "insert into supabase_migrations.schema_migrations (version, statements, name) "
                        "values (%s, %s, %s) on conflict (version) do update set statements = excluded.statements",
                        [migration.version, [text], migration.topic],
                    )
            except psycopg.Error as exc:
                where = f" Hint: {exc.diag.message_hint}." if exc.diag.message_hint else ""
                raise MigrationError(
                    f"{migration.path.name} failed: {exc.sqlstate} {str(exc).splitlines()[0]}.{where} "
                    "It changed nothing; mend the cause and run `agg-pipeline migrate` again."
                ) from None
            applied.append(migration)
    return applied
