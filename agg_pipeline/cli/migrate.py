"""The command migrate."""

from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import DatabaseUrl, Root
from agg_pipeline.cli.target import ROOT, owner_dsn
from agg_pipeline.database.migrate import Migration
from agg_pipeline.database.migrate import migrate as apply_migrations
from agg_pipeline.doctor import describe_database


@command("migrate")
def migrate(
    database_url: DatabaseUrl = None,
    again: Annotated[
        bool, typer.Option("--again", help="Apply every file once more: when older SQL was run over them.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Bring the database to this version. Safe to repeat; never drops a row, a column or a setting."""
    dsn = owner_dsn(database_url, root)
    console.print(f"Before: {describe_database(dsn)}.", highlight=False)
    applied = apply_migrations(dsn, on_apply=_show, again=again)
    if not applied:
        console.print("Nothing to do: the database is at this version.")
        return
    console.print(f"{len(applied)} migrations applied.")
    console.print(f"After: {describe_database(dsn)}. `agg-pipeline doctor` says what is left to do.", highlight=False)


def _show(migration: Migration) -> None:
    console.print(f"  {migration.version} {migration.topic}", highlight=False)
