"""The command load."""

from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError, command, errors
from agg_pipeline.cli.arguments import Root, parse_time, parse_timeframe
from agg_pipeline.cli.load_file import load_file
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.market.timeframes import Timeframe


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
