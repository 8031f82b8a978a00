"""The command gaps: absent source bars, since when, and of which kind."""

import datetime as dt
from typing import Annotated

import typer
from rich.table import Table

from agg_pipeline.cli.app import CommandError, WholeTable, command, console, styled
from agg_pipeline.cli.arguments import Root, Symbol, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect, tasks_of
from agg_pipeline.database.models.gaps import Gap, GapReport
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.reading.extent import end_of_source
from agg_pipeline.reading.pages import pages

DAYS = 7


@command("gaps")
def gaps(
    symbol: Symbol,
    timeframe: Annotated[
        str | None,
        typer.Argument(metavar="[TIMEFRAME]", help="Of the task whose source is read. Default: the shortest."),
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help=f"ISO time, UTC. Default: {DAYS} days before --to.")
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", help=f"ISO time, UTC. Default: now, or the end of bars that end over {DAYS} days ago."),
    ] = None,
    closed: Annotated[bool, typer.Option("--closed", help="Also gaps in which the market was closed.")] = False,
    root: Root = ROOT,
) -> None:
    """List gaps in the source bars with their age; count rejected and late rows."""
    since, until = begin and parse_time(begin, "--from"), end and parse_time(end, "--to")
    name = timeframe and parse_timeframe(timeframe).value
    now = dt.datetime.now(dt.UTC)
    with connect(root) as gateway:
        task, *_ = tasks_of(gateway, [symbol], name)
        stop = until or _end_of_bars(task, now)
        start = since or stop - dt.timedelta(days=DAYS)
        if start >= stop:
            raise CommandError(f"--from {start:%Y-%m-%d %H:%M} is not before --to {stop:%Y-%m-%d %H:%M}.")
        reports = [gateway.gaps(task, max(start, first), min(stop, last)) for first, last in pages(start, stop)]
    found = [gap for report in reports for gap in report.gaps if closed or gap.kind != "closed"]
    range_of_time = f"{start:%Y-%m-%d %H:%M} to {stop:%Y-%m-%d %H:%M} UTC"
    console.print(_table(f"{task.source_timeframe} bars of {task} from {range_of_time}", found))
    console.print(_summary(reports), highlight=False)
    if stop == now:
        console.print("The newest ones may still arrive: a window is final when late_deadline_seconds are over.")


def _end_of_bars(task: TaskHealth, now: dt.datetime) -> dt.datetime:
    """Now, since a feed that has been silent for hours has its gap there; but the end of bars of a loaded history."""
    end = end_of_source([task])
    return now if end is None or now - end < dt.timedelta(days=DAYS) else end


def _table(title: str, found: list[Gap]) -> Table:
    table = WholeTable(title=f"Missing {title}", title_justify="left")
    for column in ("from (UTC)", "before (UTC)", "kind"):
        table.add_column(column)
    for column in ("missing", "age"):
        table.add_column(column, justify="right")
    for gap in found:
        age = dt.timedelta(seconds=gap.age_seconds)
        table.add_row(
            f"{gap.from_utc:%Y-%m-%d %H:%M}", f"{gap.to_utc:%Y-%m-%d %H:%M}",
            styled((gap.kind, "red")) if gap.kind == "missing" else gap.kind, f"{gap.missing:,}",
            f"{age.days} d" if age.days else f"{age.seconds // 3600} h {age.seconds // 60 % 60} min",
        )  # fmt: skip
    return table


def _summary(reports: list[GapReport]) -> str:
    missing = sum(gap.missing for report in reports for gap in report.gaps if gap.kind == "missing")
    quiet = sum(gap.missing for report in reports for gap in report.gaps if gap.kind == "quiet")
    found, rejected, late = (sum(getattr(report, name) for report in reports) for name in ("found", "rejected", "late"))
    return (
        f"{found:,} source bars found, {missing:,} missing, {quiet:,} quiet (no trade expected), "
        f"{rejected:,} rejected as not valid, {late:,} late or written again."
    )
