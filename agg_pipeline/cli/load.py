"""The command load."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from agg_pipeline.cli.app import CommandError, command, console, errors
from agg_pipeline.cli.arguments import Root, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.ingest.bar_file import BarFile, Reject
from agg_pipeline.ingest.upload import Upload, upload_file
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
    """Load raw bars; register symbols that are new. Rows that are not valid are listed, all others are loaded."""
    base = parse_timeframe(timeframe)
    if base not in (Timeframe.M1, Timeframe.M5):
        raise CommandError(f"{base} bars are built, not loaded: raw bars are 1m or 5m.")
    begin = parse_time(start, "--start") if start else None
    with connect(root) as gateway:
        rejected = sum(_load(gateway, BarFile(path, base), begin).rejected for path in files)
    if rejected:
        errors.print(f"{rejected} rows were not loaded; see above.", style="yellow")


def _load(gateway: AggGateway, file: BarFile, start: dt.datetime | None) -> Upload:
    def show(reject: Reject) -> None:
        _warn(f"{file.path.name} {reject}")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(file.path.name, total=file.size_bytes)
        upload = upload_file(
            gateway, file, start=start, on_reject=show, on_progress=lambda n: progress.update(bar, completed=n)
        )
    console.print(
        f"{file.path.name}: {upload.inserted:,} bars inserted, {upload.updated:,} updated, "
        f"{upload.unchanged:,} unchanged, {upload.rejected:,} rows rejected "
        f"({', '.join(sorted(upload.symbols)) or 'no symbol'}).",
        highlight=False,
    )
    for symbol, begins in upload.early.items():
        _warn(
            f"{symbol}: bars before {begins:%Y-%m-%d %H:%M} are stored but not aggregated; its tasks start then "
            "(data_agg_state.agg_start_utc)."
        )
    for symbol, newest in upload.future.items():
        _warn(
            f"{symbol}: bars are later than now, up to {newest:%Y-%m-%d %H:%M} UTC. Are the file's times UTC? Until "
            "then a silent feed is not noticed; docs/operations.md, The feed stopped, says how to remove them."
        )
    return upload


def _warn(text: str) -> None:
    errors.print(text, style="yellow", highlight=False, soft_wrap=True)
