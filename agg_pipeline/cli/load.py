"""The command load."""

import contextlib
import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError, command, errors
from agg_pipeline.cli.arguments import Root, parse_time, parse_timeframe
from agg_pipeline.cli.load_report import LoadReport
from agg_pipeline.cli.stop_signals import Stopped, stop_signals
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.errors import GatewayError, PermanentError
from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline.ingest.upload import upload_file
from agg_pipeline.market.timeframes import Timeframe

NOT_ALL = 1  # exit code: some rows or files were not loaded
NOTHING = 2  # exit code: nothing was loaded


@command("load", failure=NOTHING)
def load(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="CSV or Parquet, .gz too, or a pipe: symbol,ts_utc,open,high,low,close,volume[,vwap,trade_count]"
        ),
    ],
    timeframe: Annotated[str, typer.Option(help="Timeframe of the bars: 1m or 5m.")] = "1m",
    start: Annotated[
        str | None, typer.Option(help="Where tasks of new symbols start, ISO date. Default: the day of the first bar.")
    ] = None,
    asset_class: Annotated[
        str | None, typer.Option(help="Class of new symbols, such as fx, which gives them the hours of fx_24x5.")
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(help="What separates fields: a character or its name. Default: comma, semicolon, tab or pipe."),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="IANA time zone of times that have no offset. Default: UTC.")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="Names of columns in the file, such as ts=Date,open=O. May be repeated.")
    ] = None,
    symbol: Annotated[str | None, typer.Option(help="Symbol of files that have no such column.")] = None,
    decimal_comma: Annotated[
        bool, typer.Option("--decimal-comma", help="Numbers are written as 1.234,5 instead of 1,234.5.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Load raw bars; register symbols that are new. Rows that are not valid are listed, all others are loaded.

    Exit code 0: all is loaded; 1: some rows or files are not; 2: nothing is; 130, 143: stopped by Ctrl-C, by SIGTERM.
    """
    base = parse_timeframe(timeframe)
    if base not in (Timeframe.M1, Timeframe.M5):
        raise CommandError(f"{base} bars are built, not loaded: raw bars are 1m or 5m.")
    begin = parse_time(start, "--start") if start else None
    try:
        options = FileOptions.parse(
            separator=separator, timezone=timezone, columns=columns or (), symbol=symbol, decimal_comma=decimal_comma
        )
    except ValueError as exc:
        raise CommandError(f"{exc}.") from None
    try:
        with stop_signals() as signals, connect(root) as gateway:
            reports = [LoadReport(path, signals.check) for path in files]
            stopped = _load_all(gateway, reports, base, options, begin, asset_class)
    except Stopped as exc:  # before the first file, or while the last report was printed
        raise typer.Exit(exc.exit_code) from None
    if rejected := sum(report.upload.rejected for report in reports):
        errors.print(f"{rejected:,} rows were not loaded; see above.", style="yellow", highlight=False)
    if code := stopped or _exit_code(reports):
        raise typer.Exit(code)


def _load_all(
    gateway: AggGateway,
    reports: Sequence[LoadReport],
    base: Timeframe,
    options: FileOptions,
    start: dt.datetime | None,
    asset_class: str | None,
) -> int | None:
    """Load each file; one that cannot be loaded does not keep the others from it. Returns the exit code of a signal."""
    for nth, report in enumerate(reports, 1):
        try:
            with contextlib.closing(BarFile(report.path, base, options)) as file, report.reading(file) as after_batch:
                upload_file(
                    gateway,
                    file,
                    start=start,
                    asset_class=asset_class,
                    on_reject=report.rejects.add,
                    on_progress=after_batch,
                    upload=report.upload,
                )
        except BarFileError as exc:
            report.end(failure=str(exc))
        except GatewayError as exc:
            report.end(failure=str(exc))
            if exc.is_configuration or not isinstance(exc, PermanentError):  # the next file would fail as well
                _name_left_out(reports[nth:])
                return None
        except Stopped as exc:
            report.end(stopped_by=str(exc))
            _name_left_out(reports[nth:])
            return exc.exit_code
        else:
            report.end()
    return None


def _exit_code(reports: Sequence[LoadReport]) -> int:
    if not any(report.upload.stored for report in reports):
        return NOTHING
    return 0 if all(report.is_whole for report in reports) else NOT_ALL


def _name_left_out(reports: Sequence[LoadReport]) -> None:
    if reports:
        names = ", ".join(report.name for report in reports)
        errors.print(f"Not loaded: {names}", style="yellow", highlight=False, soft_wrap=True)
