"""The command explain: why a bar is as it is, or why there is none."""

import datetime as dt
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agg_pipeline.cli.app import WholeTable, command, console, styled
from agg_pipeline.cli.arguments import Root, Symbol, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect, tasks_of
from agg_pipeline.database.models.explanation import Explanation, Revision
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.number_text import exact


@command("explain")
def explain(
    symbol: Symbol,
    timeframe: Annotated[str, typer.Argument()],
    window: Annotated[str, typer.Argument(help="ISO time within the window, UTC.")],
    root: Root = ROOT,
) -> None:
    """Explain a window: source bars found, expected and rejected, and each revision with time and cause."""
    name, time = parse_timeframe(timeframe).value, parse_time(window, "WINDOW")
    with connect(root) as gateway:
        (task,) = tasks_of(gateway, [symbol], name)
        explanation = gateway.explain(task, time)
    console.print(
        f"{task} from {_time(explanation.from_utc)} to {_time(explanation.to_utc)} UTC", highlight=False, style="bold"
    )
    console.print(verdict(explanation, task, dt.datetime.now(dt.UTC)), highlight=False)
    console.print(_source_table(explanation))
    if explanation.revisions:
        console.print(_revision_table(explanation.revisions))


def verdict(window: Explanation, task: TaskHealth, now: dt.datetime) -> str:
    """State of the window and its reason, in one or two sentences."""
    bad = {row.ts_utc for row in window.source if row.reject_reason or row.off_session}
    found, extra = len(window.source) - len(bad), sum(row.off_session for row in window.source)
    count = f"{found} of {window.expected} expected {window.source_timeframe} bars are there"
    count += f", and {extra} outside of trading hours" if extra else ""
    live = next((bar for bar in window.revisions if bar.ended_at is None), None)
    if window.invalidation and window.from_utc < window.cursor_utc:  # later ones are not built yet
        why = f" ({window.invalidation.reason})" if window.invalidation.reason else ""
        since = f"{window.invalidation.since_utc:%Y-%m-%d %H:%M:%S}"
        count += f". Its source changed at {since}{why}: one of the next ticks rebuilds it"
    if live is not None:
        return f"Built, quality {live.quality_score}; {count}."
    if window.from_utc < window.first_window_utc:
        return f"Never built: the task starts at {_time(window.first_window_utc)} (agg_start_utc); {count}."
    if window.from_utc < window.cursor_utc:
        return f"No bar: {count}, and a bar needs more than half of them."
    if now < window.to_utc:
        return f"Not built yet: the window ends at {_time(window.to_utc)}; {count}."
    if task.state in ("paused", "disabled", "failed", "stalled"):
        return f"Not built yet: the task is {task.state}, {task.reason}; {count}."
    if found < window.expected and now < window.deadline_utc:
        return (
            f"Not built yet: {count}; the tick waits for more until newer ones arrive "
            f"({_time(window.passed_by_utc)} at the earliest), or until {_time(window.deadline_utc)}."
        )
    if window.source:
        return f"Not built yet: {count}; the next tick builds it, or a later one if earlier windows wait."
    return f"Not built yet: {count}; empty windows are passed when a newer source bar arrives."


def _source_table(window: Explanation) -> Table:
    table = WholeTable(title=f"{window.source_timeframe} bars in {window.source_table}", title_justify="left")
    table.add_column("time (UTC)", no_wrap=True)
    for name in ("open", "high", "low", "close", "volume", "trades"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("written (UTC)", no_wrap=True)
    table.add_column("")
    rows = {row.ts_utc: row for row in window.source}
    for ts in sorted({*rows, *window.absent}):
        if (row := rows.get(ts)) is None:
            table.add_row(_time(ts), *[""] * 7, styled(("missing", "red")))
            continue
        note: str | Text = styled(("outside of trading hours", "yellow")) if row.off_session else ""
        note = styled((f"rejected: {row.reject_reason}", "red")) if row.reject_reason else note
        prices = [_number(value) for value in (row.open, row.high, row.low, row.close, row.vol, row.trade_count)]
        table.add_row(_time(ts), *prices, f"{row.written_at:%Y-%m-%d %H:%M:%S}", note)
    return table


def _revision_table(revisions: list[Revision]) -> Table:
    table = WholeTable(title="Revisions of the bar", title_justify="left")
    for name in ("revision", "quality", "found", "open", "high", "low", "close", "volume"):
        table.add_column(name, justify="right")
    for name in ("built (UTC)", "until (UTC)", "cause"):
        table.add_column(name)
    for bar in revisions:
        table.add_row(
            str(bar.revision), str(bar.quality_score), f"{bar.source_candles} of {bar.expected_candles}",
            *(_number(value) for value in (bar.open, bar.high, bar.low, bar.close, bar.vol)),
            f"{bar.built_at:%Y-%m-%d %H:%M:%S}", f"{bar.ended_at:%Y-%m-%d %H:%M:%S}" if bar.ended_at else "live",
            bar.cause,
        )  # fmt: skip
    return table


def _time(ts: dt.datetime) -> str:
    return f"{ts:%Y-%m-%d %H:%M}"


def _number(value: float | str | None) -> str:
    return exact(value) if value is None or isinstance(value, float) else str(value)
