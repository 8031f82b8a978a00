"""The command rebuild."""

from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import From, Root, Symbol, To, parse_time, parse_timeframe
from agg_pipeline.cli.tables import rebuild_table
from agg_pipeline.cli.target import ROOT, connect, histories
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.rebuild import BarChange, RebuildResult


@command("rebuild")
def rebuild(
    symbol: Symbol,
    timeframe: Annotated[str, typer.Argument(help="5m, 15m, 1h, 4h or 1d; the timeframes built from it follow.")],
    begin: From = None,
    end: To = None,
    do: Annotated[bool, typer.Option("--do", help="Store the bars. Default: only show what would change.")] = False,
    version: Annotated[
        int | None, typer.Option("--derivation-version", min=1, help="Give the bars of TIMEFRAME this version.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Recompute built bars and the bars built from them. Shows what would change; stores them with --do."""
    task = Task(symbol=symbol, timeframe=parse_timeframe(timeframe).value)
    with connect(root) as gateway:
        first, cursor = histories(gateway, [symbol])[symbol]
        start = parse_time(begin, "--from") if begin else first
        stop = parse_time(end, "--to") if end else cursor
        parts: list[RebuildResult] = []
        while not parts or parts[-1].has_more:
            parts.append(
                gateway.rebuild(
                    task, parts[-1].next_from_utc if parts else start, stop, dry_run=not do, version=version
                )
            )
            for change in parts[-1].changes:
                console.print(_change(symbol, change), highlight=False, soft_wrap=True)
            if (more := parts[-1].written + parts[-1].retired - len(parts[-1].changes)) > 0:
                console.print(f"... and {more:,} more up to {parts[-1].next_from_utc:%Y-%m-%d %H:%M}", highlight=False)
    console.print(rebuild_table(parts))
    if not do:
        console.print("Nothing was changed; repeat with --do to store this.")


def _change(symbol: str, change: BarChange) -> str:
    fields = ", ".join(
        f"{name} {'unknown' if before is None else before} -> {'unknown' if after is None else after}"
        for name, (before, after) in change.fields.items()
        if name != "raw"
    )
    return f"{symbol} {change.timeframe} {change.ts_utc:%Y-%m-%d %H:%M} {change.change} {fields}".rstrip()
