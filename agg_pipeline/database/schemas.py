"""supabase/schemas: the source of truth of the database, one topic a file, in the order of supabase/config.toml."""

import tomllib
from pathlib import Path

import psycopg

from agg_pipeline.database.connection import connect, transaction

SUPABASE = Path(__file__).parents[1] / "supabase"


def schema_files(supabase: Path = SUPABASE) -> list[Path]:
    """The files in the order of ``[db.migrations] schema_paths``.

    Raises:
        ValueError: the folder holds a file that the order does not name, or the other way round.
    """
    config = tomllib.loads((supabase / "config.toml").read_text(encoding="utf-8"))
    named = [supabase / path for path in config["db"]["migrations"]["schema_paths"]]
    there = set((supabase / "schemas").glob("*.sql"))
    if wrong := sorted(path.name for path in there ^ set(named)):
        raise ValueError(f"schema_paths in {supabase / 'config.toml'} and the folder schemas differ in: {wrong}")
    return named


def apply_schemas(dsn: str, supabase: Path = SUPABASE) -> None:
    """Make the final state in an empty database that has Supabase's roles. One transaction.

    Raises psycopg.Error with the name of the file in a note.
    """
    with connect(dsn) as connection, transaction(connection):
        for path in schema_files(supabase):
            try:
                connection.execute(path.read_bytes())
            except psycopg.Error as exc:
                exc.add_note(f"in {path.name}")
                raise
