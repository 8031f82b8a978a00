"""The command explain: why a bar is as it is, or is not there."""

import datetime as dt
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Root, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect, tasks_of
from agg_pipeline.database.models.explanation import Explanation, Revision
from agg_pipeline.database.models.health import TaskHealth


@command("explain")
def explain(
    symbol: Annotated[str, typer.Argument()],
    timeframe: Annotated[str, typer.Argument()],
    window: Annotated[str, typer.Argument(help="ISO time in the window, UTC.")],
    root: Root = ROOT,
) -> None:
    """Explain a window: its source bars, what was expected, what was rejected, each revision with time and cause."""
    name, time = parse_timeframe(timeframe).value, parse_time(window, "WINDOW")
    with connect(root) as gateway:
        (task,) = tasks_of(gateway, [symbol], name)
        told = gateway.explain(task, time)
    console.print(f"{task} from {_time(told.from_utc)} to {_time(told.to_utc)} UTC", highlight=False, style="bold")
    console.print(verdict(told, task, dt.datetime.now(dt.UTC)), highlight=False)
    console.print(_source_table(told))
    if told.revisions:
        console.print(_revision_table(told.revisions))


def verdict(told: Explanation, task: TaskHealth, now: dt.datetime) -> str:
    """What became of the window, in a sentence or two."""
    bad = {row.ts_utc for row in told.source if row.reject_reason or row.off_session}
    found, extra = len(told.source) - len(bad), sum(row.off_session for row in told.source)
    count = f"{found} of {told.expected} expected {told.source_timeframe} bars are there"
    count += f", and {extra} outside of trading hours" if extra else ""
    live = next((bar for bar in told.revisions if bar.ended_at is None), None)
    if told.invalidation and told.from_utc < told.cursor_utc:  # later ones are computed anyway, and for the first time
        why = f" ({told.invalidation.reason})" if told.invalidation.reason else ""
        since = f"{told.invalidation.since_utc:%Y-%m-%d %H:%M:%S}"
        count += f". Its source changed at {since}{why}: one of the next ticks builds it again"
    if live is not None:
        return f"Built, quality {live.quality_score}; {count}."
    if told.from_utc < told.first_window_utc:
        return f"Never built: the task starts at {_time(told.first_window_utc)} (agg_start_utc); {count}."
    if told.from_utc < told.cursor_utc:
        return f"No bar: {count}, and a bar needs more than half of them."
    if now < told.to_utc:
        return f"Not built yet: the window ends at {_time(told.to_utc)}; {count}."
    if task.state in ("paused", "disabled", "failed", "stalled"):
        return f"Not built yet: the task is {task.state}, {task.reason}; {count}."
    if found < told.expected and now < told.deadline_utc:
        return (
            f"Not built yet: {count}; it is waited for more until newer ones have come "
            f"({_time(told.passed_by_utc)} at the earliest), or until {_time(told.deadline_utc)}."
        )
    if told.source:
        return f"Not built yet: {count}; the next tick takes it, or a later one if windows before it wait."
    return f"Not built yet: {count}; empty windows are passed when a newer source bar comes."


def _source_table(told: Explanation) -> Table:
    table = Table(title=f"{told.source_timeframe} bars in {told.source_table}", title_justify="left")
    table.add_column("time (UTC)", no_wrap=True)
    for name in ("open", "high", "low", "close", "volume", "trades"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("written (UTC)", no_wrap=True)
    table.add_column("")
    rows = {row.ts_utc: row for row in told.source}
    for ts in sorted({*rows, *told.absent}):
        if (row := rows.get(ts)) is None:
            table.add_row(_time(ts), *[""] * 7, "[red]missing[/]")
            continue
        said = f"[red]rejected: {row.reject_reason}[/]" if row.reject_reason else ""
        said = said or ("[yellow]outside of trading hours[/]" if row.off_session else "")
        prices = [_number(value) for value in (row.open, row.high, row.low, row.close, row.vol, row.trade_count)]
        table.add_row(_time(ts), *prices, f"{row.written_at:%Y-%m-%d %H:%M:%S}", said)
    return table


def _revision_table(revisions: list[Revision]) -> Table:
    table = Table(title="Revisions of the bar", title_justify="left")
    for name in ("revision", "quality", "found", "open", "high", "low", "close", "volume"):
        table.add_column(name, justify="right")
    for name in ("built (UTC)", "until (UTC)", "cause"):
        table.add_column(name)
    for bar in revisions:
        table.add_row(
            str(bar.revision), str(bar.quality_score), f"{bar.source_candles} of {bar.expected_candles}",
            *(_number(value) for value in (bar.open, bar.high, bar.low, bar.close, bar.vol)),
            f"{bar.built_at:%Y-%m-%d %H:%M:%S}", f"{bar.ended_at:%Y-%m-%d %H:%M:%S}" if bar.ended_at else "live",
            escape(bar.cause),
        )  # fmt: skip
    return table


def _time(ts: dt.datetime) -> str:
    return f"{ts:%Y-%m-%d %H:%M}"


def _number(value: float | str | None) -> str:
    return "-" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)
