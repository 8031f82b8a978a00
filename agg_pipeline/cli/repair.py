"""The command repair: finds and corrects bars and cursors that the predecessor left wrong."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from agg_pipeline.cli.app import WholeTable, command, console, print_error
from agg_pipeline.cli.arguments import Root, Symbols, parse_time
from agg_pipeline.cli.tables import rebuild_table
from agg_pipeline.cli.target import ROOT, connect, tasks_of
from agg_pipeline.database.models.rebuild import BadCursor
from agg_pipeline.quality.repair import KINDS, Repair, TaskDamage, repair

_CURSORS = {
    "future": "later than its data: set to the window of the newest bar",
    "off_grid": "off the grid: set to the start of its window",
    "frozen": "at an empty window: the next ticks pass it",
    "impossible": "not between 1900 and 2200, or its next run is not: set to the start of the task, which is due now",
    "stuck": "left running by a worker that is gone: released",
}


@command("repair")
def repair_bars(
    apply: Annotated[
        bool, typer.Option("--apply/--plan", help="Correct. Default: only show what would be done.")
    ] = False,
    symbols: Symbols = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="ISO time, UTC: windows from there on. Default: all of history.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Find bars and cursors that the predecessor left wrong, and correct them; old values stay as revisions.

    Exit code 1 if a plan finds something.
    """
    since = parse_time(begin, "--from") if begin else None
    with (
        connect(root) as gateway,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        tasks = tasks_of(gateway, symbols)
        bar = progress.add_task("Repairing" if apply else "Checking", total=len(tasks))
        done = repair(gateway, symbols=symbols or (), begin=since, apply=apply, on_task=lambda: progress.advance(bar))
    _show(done, apply)
    for symbol, why in done.refused.items():
        print_error(f"{symbol}: {why}")
    if done.refused or (not apply and not done.is_sound):
        raise typer.Exit(1)


def _show(done: Repair, apply: bool) -> None:
    if done.cursors:
        console.print(_cursor_table(done.cursors))
    if any(found.bars for found in done.damage):
        console.print(_damage_table([found for found in done.damage if found.bars]))
    judged, wrong = sum(found.evaluated for found in done.damage), sum(found.bars for found in done.damage)
    if done.levels:
        console.print(rebuild_table([done], title="Bars, with those above them"))
    console.print(
        f"{judged:,} windows of {len(done.damage)} tasks were checked, {wrong:,} were wrong.", highlight=False
    )
    for kind, meaning in KINDS.items():
        if any(found.kinds[kind] for found in done.damage):
            console.print(f"  {kind}: {meaning}.", highlight=False)
    if done.is_sound:
        console.print("Nothing to repair.")
    elif apply:
        console.print("Repaired. The earlier values stay readable (bars_as_of).")
    else:
        console.print("Nothing was changed; repeat with --apply to repair.")


def _cursor_table(cursors: Sequence[BadCursor]) -> Table:
    table = WholeTable(title="Cursors", title_justify="left")
    for name in ("symbol", "timeframe", "next window (UTC)", "problem and correction"):
        table.add_column(name)
    table.add_column("windows behind", justify="right")
    for cursor in cursors:
        table.add_row(
            cursor.symbol,
            cursor.timeframe,
            f"{cursor.from_utc:%Y-%m-%d %H:%M:%S}" if cursor.from_utc else "-",
            _CURSORS[cursor.kind] + (" (leased: not changed; repeat later)" if cursor.leased else ""),
            "-" if cursor.windows is None else f"{cursor.windows:,}",
        )
    return table


def _damage_table(damage: Sequence[TaskDamage]) -> Table:
    table = WholeTable(title="Bars that their source does not give", title_justify="left")
    table.add_column("symbol")
    table.add_column("timeframe")
    for kind in ("judged", *KINDS):
        table.add_column(kind, justify="right")
    for found in damage:
        table.add_row(
            found.task.symbol,
            found.task.timeframe,
            f"{found.evaluated:,}",
            *(f"{found.kinds[kind]:,}" if found.kinds[kind] else "" for kind in KINDS),
        )
    return table
