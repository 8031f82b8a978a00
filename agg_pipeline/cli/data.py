"""Commands on the data: load, sync, tick, migrate."""

import os
from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError, command, console, errors
from agg_pipeline.cli.arguments import DatabaseUrl, Root, parse_time, parse_timeframe
from agg_pipeline.cli.loading import load_file
from agg_pipeline.cli.target import ROOT, connect, owner_dsn
from agg_pipeline.doctor import state
from agg_pipeline.local import running
from agg_pipeline.migrations import Migration
from agg_pipeline.migrations import migrate as apply_migrations
from agg_pipeline.settings import load_settings
from agg_pipeline.timeframes import Timeframe


@command("load")
def load(
    files: Annotated[
        list[Path],
        typer.Argument(help="CSV or Parquet, .gz too: symbol,ts_utc,open,high,low,close,volume[,vwap,trade_count]"),
    ],
    timeframe: Annotated[str, typer.Option(help="Timeframe of the bars: 1m or 5m.")] = "1m",
    start: Annotated[
        str | None, typer.Option(help="Where tasks of new symbols start, ISO date. Default: the day of the first bar.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Load raw bars; register symbols that are new. Bad rows are listed, all others are loaded."""
    base = parse_timeframe(timeframe)
    if base not in (Timeframe.M1, Timeframe.M5):
        raise CommandError(f"{base} bars are built, not loaded: raw bars are 1m or 5m.")
    begin = parse_time(start, "--start") if start else None
    rejected = 0
    with connect(root) as gateway:
        for path in files:
            rejected += load_file(gateway, path, base, begin)
    if rejected:
        errors.print(f"[yellow]{rejected} rows were not loaded; see above.[/]")


@command("sync")
def sync(root: Root = ROOT) -> None:
    """Create the tasks that active assets of the registry lack. Each tick does so too."""
    with connect(root) as gateway:
        result = gateway.sync(load_settings().env_name.value)
    console.print(f"{result.tasks_created} tasks created, {result.tasks_updated} repaired.")


@command("tick")
def tick(
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol; repeat for more.")] = None,
    timeframes: Annotated[
        list[str] | None, typer.Option("--timeframe", help="Only this timeframe; repeat for more.")
    ] = None,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="Tasks to take at most.")] = None,
    max_windows: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Windows to build per task at most.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """One run of the job now, in this process; it shows in the Dagster UI of `agg-pipeline up`."""
    for name in timeframes or []:
        parse_timeframe(name)
    with connect(root):  # an unreachable database is one line here, a page of traceback inside a run
        pass
    from agg_pipeline.cli.ticking import run_job

    stack, home = running(root), (root / "dagster_home").absolute()
    if stack is not None and home.exists():
        os.environ.setdefault("DAGSTER_HOME", str(home))
        os.environ.setdefault("DAGSTER_POSTGRES_URL", stack.dagster_dsn)
    ran = run_job(
        {
            "symbols": symbols or None,
            "timeframes": timeframes or None,
            "max_tasks": max_tasks,
            "max_windows": max_windows,
        }
    )
    console.print(*(ran.lines or (["Nothing was due."] if ran.success else [])), sep="\n", highlight=False)
    if not ran.success:
        raise CommandError(ran.failure or "The run failed; its log has the reason.")


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
    console.print(f"Before: {state(dsn)}.", highlight=False)
    applied = apply_migrations(dsn, on_apply=_say, again=again)
    if not applied:
        console.print("Nothing to do: the database is at this version.")
        return
    console.print(f"{len(applied)} migrations applied.")
    console.print(f"After: {state(dsn)}. `agg-pipeline doctor` says what is left to do.", highlight=False)


def _say(migration: Migration) -> None:
    console.print(f"  {migration.version} {migration.topic}", highlight=False)
