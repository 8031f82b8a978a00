"""Commands that look for wrong bars and mend them: verify, rebuild."""

import datetime as dt
import math
import time
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.progress import Progress

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.arguments import Root, parse_time, parse_timeframe
from agg_pipeline.cli.report import rebuild_table
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.models import BarChange, RebuildResult, Task, TaskHealth
from agg_pipeline.verify import PAGE, pages, verify_page

From = Annotated[str | None, typer.Option("--from", help="ISO time, UTC: windows that start at or after it.")]
To = Annotated[str | None, typer.Option("--to", help="ISO time, UTC: windows that start before it.")]


@command("verify")
def verify(
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol; repeat for more.")] = None,
    timeframes: Annotated[
        list[str] | None, typer.Option("--timeframe", help="Only this timeframe; repeat for more.")
    ] = None,
    begin: From = None,
    end: To = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All of history. Default: the last 30 days before each symbol's cursor.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Recompute stored bars in pandas and list every difference; exit code 1 if there is one."""
    wanted = {parse_timeframe(name).value for name in timeframes or []}
    since, until = begin and parse_time(begin, "--from"), end and parse_time(end, "--to")
    began, source_bars, bars, wrong, waiting = time.monotonic(), 0, 0, 0, 0
    with (
        connect(root) as gateway,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        histories = _histories(gateway.health(), symbols)
        work = []
        for symbol, (first, cursor) in histories.items():
            stop = until or max(cursor, dt.datetime.now(dt.UTC))
            start = max(first, since or (first if everything else min(cursor, stop) - PAGE))
            work += [(symbol, page, start, stop) for page in pages(start, stop)]
        for symbol, page, start, stop in progress.track(work, description="Verifying"):
            verdict = verify_page(gateway, symbol, page, begin=start, end=stop, timeframes=wanted)
            source_bars, bars = source_bars + verdict.source_bars, bars + verdict.bars
            for row in verdict.differences.itertuples():
                wrong, waiting = wrong + 1, waiting + bool(row.waits)
                console.print(_difference(row), highlight=False, soft_wrap=True)
    console.print(
        f"{bars:,} bars of {len(histories)} symbols held against {source_bars:,} source bars in "
        f"{time.monotonic() - began:.0f} s: {wrong:,} differences"
        + (f", {waiting:,} of them in windows that the next tick builds again anyway." if waiting else "."),
        highlight=False,
        soft_wrap=True,
    )
    if wrong:
        raise typer.Exit(1)


@command("rebuild")
def rebuild(
    symbol: Annotated[str, typer.Argument()],
    timeframe: Annotated[str, typer.Argument(help="5m, 15m, 1h, 4h or 1d; what is built from it follows.")],
    begin: From = None,
    end: To = None,
    do: Annotated[bool, typer.Option("--do", help="Write. Default: show what would change.")] = False,
    version: Annotated[
        int | None, typer.Option("--derivation-version", min=1, help="Give the bars of TIMEFRAME this version.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Compute built bars again, also those above them. Shows what would change; writes with --do."""
    task = Task(symbol=symbol, timeframe=parse_timeframe(timeframe).value)
    with connect(root) as gateway:
        first, cursor = _histories(gateway.health(), [symbol])[symbol]
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
        console.print("Nothing was written; repeat with --do to write this.")


def _histories(health: Iterable[TaskHealth], symbols: list[str] | None) -> dict[str, tuple[dt.datetime, dt.datetime]]:
    """First window and cursor of each symbol, over its tasks. Raises CommandError that lists what there is."""
    found: dict[str, tuple[dt.datetime, dt.datetime]] = {}
    for task in health:
        first, cursor = task.first_window_utc, task.cursor_utc or task.first_window_utc
        before = found.get(task.symbol, (first, cursor))
        found[task.symbol] = (min(first, before[0]), max(cursor, before[1]))
    if unknown := sorted(set(symbols or []) - found.keys()):
        raise CommandError(f"There are no tasks of {', '.join(unknown)}. There are: {', '.join(found) or 'none'}.")
    return {symbol: found[symbol] for symbol in symbols} if symbols else found


def _difference(row: Any) -> str:
    at = f"{row.canonical_symbol} {row.timeframe} {row.ts_utc:%Y-%m-%d %H:%M}"
    waits = " (to be built again)" if row.waits else ""
    if row.problem == "missing":
        return f"{at} missing{waits}"
    if row.problem == "surplus":
        return f"{at} surplus{waits}"
    off = "" if math.isnan(row.by) else f" (off by {row.by:.6g})"
    return f"{at} {row.field} is {_value(row.actual)}, should be {_value(row.expected)}{off}{waits}"


def _value(value: float) -> str:
    return "unknown" if math.isnan(value) else repr(value).removesuffix(".0")


def _change(symbol: str, change: BarChange) -> str:
    fields = ", ".join(
        f"{name} {'unknown' if before is None else before} -> {'unknown' if after is None else after}"
        for name, (before, after) in change.fields.items()
        if name != "raw"
    )
    return f"{symbol} {change.timeframe} {change.ts_utc:%Y-%m-%d %H:%M} {change.change} {fields}".rstrip()
