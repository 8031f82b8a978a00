"""Tables for the terminal."""

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from agg_pipeline.cli.app import WholeTable, styled
from agg_pipeline.database.models.bars import BarSummary
from agg_pipeline.database.models.health import State, TaskHealth
from agg_pipeline.database.models.rebuild import LevelRebuild
from agg_pipeline.market.names import shell_words
from agg_pipeline.market.timeframes import Timeframe

_READABLE = 30  # columns for a cause
_SHORT_TASK, _STATE, _DATE = 13, 8, 10  # EURUSD/15m; the longest word of a state; the date of a time

COLOURS: dict[State, str] = {
    "current": "green",
    "catching up": "cyan",
    "waiting for data": "yellow",
    "waiting for source": "bold yellow",
    "paused": "magenta",
    "stalled": "bold red",
    "failed": "bold red",
    "disabled": "red",
}


def status_table(tasks: Sequence[TaskHealth], width: int) -> Table:
    """One row per task: state and cause, next window, lag in windows, completeness of the last hour and day.

    Args:
        width: of the terminal, in columns. Where the causes would get less than a readable part of it, the other
            columns are broken into lines instead.
    """
    rows = [
        (
            str(task),
            task.state,
            _time(task.next_window_utc),
            "-" if task.lag_windows is None else f"{task.lag_windows:,}",
            _percent(task.completeness_hour),
            _percent(task.completeness_day),
            _cause(task),
        )
        for task in tasks
    ]
    names = ("task", "state", "next window (UTC)", "lag", "hour", "day", "why")
    widths = [max(map(cell_len, column)) for column in zip(names, *rows, strict=True)]
    fits = sum(widths[:-1]) + min(widths[-1], _READABLE) + 3 * len(names) + 1 <= width  # 3: line and blanks of a column
    table = WholeTable(title=_summary(tasks), title_justify="left")
    if not fits:
        table = WholeTable(title=_summary(tasks), title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    longest = {"task": max(_SHORT_TASK, width // 6), "state": _STATE, "next window (UTC)": _DATE}
    for name in names:
        table.add_column(
            name,
            justify="right" if name in names[2:-1] else "left",
            no_wrap=name in ("lag", "hour", "day"),
            max_width=None if fits else longest.get(name),
        )
    for task, (first, _, *rest) in zip(tasks, rows, strict=True):
        table.add_row(first, styled((task.state, COLOURS[task.state])), *rest)
    return table


def _cause(task: TaskHealth) -> str:
    lease = f"leased by run {task.lease_owner} until {_time(task.lease_expires_at)}" if task.lease_owner else None
    failing = task.hard_fail_streak + task.transient_streak > 0 or task.status in ("disabled", "hard_failed")
    return ". ".join(dict.fromkeys(text for text in (task.reason, task.last_error if failing else None, lease) if text))


_ADVICE: dict[State, str] = {
    "failed": "correct what the error names; `agg-pipeline explain {window}` shows the source rows",
    "stalled": "`agg-pipeline doctor` names possible causes; docs/operations.md explains each",
    "disabled": "correct the cause, then `agg-pipeline resume {task}`",
    "paused": "`agg-pipeline resume {symbol}` when the reason no longer applies",
    "waiting for source": "`agg-pipeline gaps {symbol}` lists the missing bars; if its market is closed now: "
    "`agg-pipeline calendars`",
    "waiting for data": "`agg-pipeline load FILE`; docs/operations.md says how to move bars from the wrong table",
}


def advice(tasks: Iterable[TaskHealth]) -> list[str | Text]:
    """What to do about each state that needs an operator, for the first task in it."""
    lines: dict[State, str | Text] = {}
    for task in tasks:
        if task.state in _ADVICE and task.state not in lines and not task.waits_for_task:
            window = f"{task.touched_from_utc or task.next_window_utc or task.built_until:%Y-%m-%dT%H:%M}"
            text = _ADVICE[task.state].format(
                symbol=shell_words(task.symbol),
                task=shell_words(task.symbol, task.timeframe),
                window=shell_words(task.symbol, task.timeframe, window),
            )
            lines[task.state] = styled((task.state, COLOURS[task.state]), f": {text}")
    return [*lines.values(), *(["docs/operations.md has the details."] if lines else [])]


def _summary(tasks: Sequence[TaskHealth]) -> Text:
    counts = Counter(task.state for task in tasks)
    shown = [styled((f"{counts[state]:,} {state}", COLOURS[state])) for state in COLOURS if counts[state]]
    return styled("Tasks: ").append_text(Text(", ").join(shown))


def _percent(share: float | None) -> str:
    """Rounded down, so that only a complete range shows 100 %."""
    return "-" if share is None else f"{math.floor(share * 100)} %"


def bar_table(bars: Iterable[BarSummary], health: Iterable[TaskHealth]) -> Table:
    """One row per symbol and timeframe: live bars by quality score, from 2 (complete) to -1, and backlog in windows."""
    backlog = {(h.symbol, h.timeframe): h.backlog_windows for h in health}
    table = WholeTable(title="Bars", title_justify="left")
    for name in ("symbol", "timeframe"):
        table.add_column(name)
    for name in ("bars", "first (UTC)", "last (UTC)", "quality 2", "1", "0", "-1", "revised", "backlog"):
        table.add_column(name, justify="right")
    for row in bars:
        waiting = backlog.get((row.symbol, row.timeframe))
        table.add_row(
            row.symbol,
            row.timeframe,
            f"{row.bars:,}",
            _time(row.first_utc),
            _time(row.last_utc),
            f"{row.quality_2:,}",
            f"{row.quality_1:,}",
            f"{row.quality_0:,}",
            f"{row.quality_minus_1:,}",
            f"{row.revised:,}",
            "-" if waiting is None else str(waiting),
        )
    return table


class Levels(Protocol):
    """Counts by timeframe."""

    @property
    def levels(self) -> Mapping[str, LevelRebuild]: ...


def rebuild_table(parts: Sequence[Levels], title: str = "Bars") -> Table:
    """One row per timeframe: bars that a rebuild, in one or more calls, stored or would store."""
    table = WholeTable(title=title, title_justify="left")
    table.add_column("timeframe")
    for name in ("written", "of them revised", "retired", "unchanged"):
        table.add_column(name, justify="right")
    for timeframe in (t for t in Timeframe if t in parts[0].levels):  # JSON keeps no order
        levels = [part.levels[timeframe] for part in parts]
        table.add_row(
            timeframe,
            *(
                f"{sum(getattr(level, n) for level in levels):,}"
                for n in ("written", "revised", "retired", "unchanged")
            ),
        )
    return table


def _time(ts: dt.datetime | None) -> str:
    return "-" if ts is None else f"{ts:%Y-%m-%d %H:%M}"
