"""The command chart: bars of a symbol as an interactive page, or as a picture."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.arguments import Root, Symbol, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect, tasks_of
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.gaps import Gap
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.names import file_name, shell_words
from agg_pipeline.market.timeframes import Timeframe, window_start
from agg_pipeline.reading.extent import end_of_source
from agg_pipeline.reading.pages import pages, read_page

WINDOWS = 300
MAX_WINDOWS = 20_000
_SUFFIXES = (".html", ".svg", ".png")


@command("chart")
def chart(
    symbol: Symbol,
    timeframe: Annotated[str, typer.Argument()],
    begin: Annotated[
        str | None, typer.Option("--from", help=f"ISO time, UTC. Default: {WINDOWS} windows before --to.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="ISO time, UTC. Default: the end of the bars.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .html, .svg or .png. Default: SYMBOL-TIMEFRAME.html.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Draw candlesticks with volume, with gaps and incomplete bars marked. The page needs no network."""
    wanted = parse_timeframe(timeframe)
    path = out or Path(f"{file_name(symbol)}-{wanted.value}.html")
    if path.suffix not in _SUFFIXES:
        raise CommandError(f"{path} does not end in one of {', '.join(_SUFFIXES)}.")
    if not path.parent.is_dir():
        raise CommandError(f"The folder {path.parent} does not exist.")
    with connect(root) as gateway:
        tasks = tasks_of(gateway, [symbol])
        stop = parse_time(end, "--to") if end else _end_of_bars(gateway, tasks, wanted)
        start = parse_time(begin, "--from") if begin else stop - WINDOWS * wanted.length
        if not 0 < (stop - start) / wanted.length <= MAX_WINDOWS:
            raise CommandError(
                f"{start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} is not 1 to {MAX_WINDOWS:,} windows of {wanted}."
            )
        bars, gaps = _bars(gateway, symbol, wanted, start, stop), _gaps(gateway, tasks, wanted, start, stop)
    if bars.empty:
        raise CommandError(
            f"There are no {wanted} bars of {symbol} from {start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} UTC; "
            f"`agg-pipeline status {shell_words(symbol)}` shows how far they are."
        )
    drawn = bars if path.suffix == ".html" else bars.sort_values("ts_utc").tail(WINDOWS)
    first, last = drawn["ts_utc"].min(), drawn["ts_utc"].max()
    title = f"{symbol} {wanted}, bars of {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    gaps = [gap for gap in gaps if gap.to_utc > first and gap.from_utc <= last]
    _write(path, drawn, gaps, title, wanted)
    missing = sum(gap.kind == "missing" for gap in gaps)
    count = f"{len(drawn):,} bars" if len(drawn) == len(bars) else f"the newest {len(drawn):,} of {len(bars):,} bars"
    console.print(f"{path}: {count}, {missing:,} gaps.", highlight=False, soft_wrap=True)


def _end_of_bars(gateway: AggGateway, tasks: list[TaskHealth], wanted: Timeframe) -> dt.datetime:
    """End of the newest bar of the timeframe; now if there is none."""
    raw = [task for task in tasks if task.source_timeframe == wanted and task.timeframe != wanted]
    own = [task for task in tasks if task.timeframe == wanted]
    if not own and (end := end_of_source(raw)) is not None:
        return end
    for task in own:
        # Of the last windows before the cursor none may be stored, if more than half of their source bars are missing.
        for since in (task.built_until - WINDOWS * wanted.length, None):
            for one in gateway.bar_summary([task.symbol], begin=since):
                if one.timeframe == wanted:
                    return one.last_utc + wanted.length
    return window_start(dt.datetime.now(dt.UTC), wanted)


def _bars(gateway: AggGateway, symbol: str, wanted: Timeframe, start: dt.datetime, stop: dt.datetime) -> pd.DataFrame:
    parts = []
    for page in pages(start, stop):
        if (read := read_page(gateway, symbol, page)) is not None:
            rows = read.stored(wanted)
            parts.append(rows[((rows["ts_utc"] >= start) & (rows["ts_utc"] < stop)).to_numpy()])
    return pd.concat(parts) if parts else pd.DataFrame()


def _gaps(
    gateway: AggGateway, tasks: list[TaskHealth], wanted: Timeframe, start: dt.datetime, stop: dt.datetime
) -> list[Gap]:
    """Gaps in the bars of the timeframe, by a task that reads them; if there is none, gaps in its source bars."""
    own = [task for task in tasks if task.timeframe == wanted]
    task = next((task for task in tasks if task.source_timeframe == wanted), None) or next(iter(own), None)
    if task is None:
        return []
    found = [gateway.gaps(task, max(start, first), min(stop, last)) for first, last in pages(start, stop)]
    return [gap for report in found for gap in report.gaps]


def _write(path: Path, bars: pd.DataFrame, gaps: list[Gap], title: str, wanted: Timeframe) -> None:
    if path.suffix == ".html":
        from agg_pipeline.reading.html_chart import candles_html

        path.write_text(candles_html(bars, gaps, title=title, length=wanted.length), encoding="utf-8")
        return
    from agg_pipeline.reading.svg_chart import candles_svg

    there = set(bars["ts_utc"])
    missing = [
        window
        for gap in gaps
        if gap.kind == "missing"
        for window in _windows_between(gap.from_utc, gap.to_utc, wanted)
        if window not in there
    ]
    svg = candles_svg(bars, title=title, gaps=missing, newest=WINDOWS)
    if path.suffix == ".svg":
        path.write_text(svg, encoding="utf-8")
    else:
        import resvg_py

        path.write_bytes(resvg_py.svg_to_bytes(svg_string=svg, background="white", zoom=2))


def _windows_between(begin: dt.datetime, end: dt.datetime, timeframe: Timeframe) -> Iterator[dt.datetime]:
    """Starts of the windows that touch [begin, end)."""
    window = window_start(begin, timeframe)
    while window < end:
        yield window
        window += timeframe.length
