"""The command verify."""

import datetime as dt
import math
import time
from typing import Annotated, Any

import typer
from rich.progress import Progress

from agg_pipeline.cli.app import apart, command, console
from agg_pipeline.cli.arguments import From, Root, Symbols, To, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect, histories
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.market.number_text import difference, exact
from agg_pipeline.quality.verification import verify_page
from agg_pipeline.reading.pages import PAGE, pages


@command("verify")
def verify(
    symbols: Symbols = None,
    timeframes: Annotated[
        list[str] | None, typer.Option("--timeframe", help="Only this timeframe; repeat for more.")
    ] = None,
    begin: From = None,
    end: To = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All of history. Default: the last 30 days of each symbol's bars.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Recompute stored bars in pandas and list every difference. Exit code 1 if there is one."""
    wanted = {parse_timeframe(name).value for name in timeframes or []}
    since, until = begin and parse_time(begin, "--from"), end and parse_time(end, "--to")
    began, source_bars, bars, wrong, invalidated = time.monotonic(), 0, 0, 0, 0
    with (
        connect(root) as gateway,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        of_symbols = histories(gateway, symbols)
        refused: list[str] = []
        work = []
        for symbol, (first, built_until) in of_symbols.items():
            with apart(symbol, refused):
                stop = until or _end_of_bars(gateway, symbol, built_until)
                start = max(first, since or (first if everything else min(built_until, stop) - PAGE))
                work += [(symbol, page, start, stop) for page in pages(start, stop)]
        for symbol, page, start, stop in progress.track(work, description="Verifying"):
            if symbol in refused:
                continue
            with apart(symbol, refused):
                verdict = verify_page(gateway, symbol, page, begin=start, end=stop, timeframes=wanted)
                source_bars, bars = source_bars + verdict.source_bars, bars + verdict.bars
                for row in verdict.differences.itertuples():
                    wrong, invalidated = wrong + 1, invalidated + bool(row.invalidated)
                    console.print(_difference(row), highlight=False, soft_wrap=True)
    console.print(
        f"{bars:,} bars of {len(of_symbols)} symbols recomputed from {source_bars:,} source bars in "
        f"{time.monotonic() - began:.0f} s: {wrong:,} differences"
        + (
            f", {invalidated:,} of them in invalidated windows, which the next ticks rebuild anyway."
            if invalidated
            else "."
        ),
        highlight=False,
        soft_wrap=True,
    )
    if wrong or refused:
        raise typer.Exit(1)


def _end_of_bars(gateway: AggGateway, symbol: str, built_until: dt.datetime) -> dt.datetime:
    """End of the last stored bar: one that lies beyond what the tasks have built is surplus."""
    beyond = gateway.bar_summary([symbol], begin=built_until)
    return max([built_until, *(one.last_utc + dt.timedelta.resolution for one in beyond)])


def _difference(row: Any) -> str:
    at = f"{row.canonical_symbol} {row.timeframe} {row.ts_utc:%Y-%m-%d %H:%M}"
    note = " (invalidated)" if row.invalidated else ""
    if row.problem == "missing":
        return f"{at} missing{note}"
    if row.problem == "surplus":
        return f"{at} surplus{note}"
    off = "" if math.isnan(row.by) else f" (off by {difference(row.by)})"
    return f"{at} {row.field} is {_value(row.actual)}, should be {_value(row.expected)}{off}{note}"


def _value(value: float) -> str:
    return "unknown" if math.isnan(value) else exact(value)
