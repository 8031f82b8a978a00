"""Tables that an operator reads in a terminal."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from rich.table import Table

from agg_pipeline.models import BarSummary, LevelRebuild, TaskHealth
from agg_pipeline.timeframes import Timeframe


def status_table(tasks: Iterable[TaskHealth]) -> Table:
    """One row per task: state, next window, newest source bar, lag in windows, last failure."""
    table = Table(title="Tasks", title_justify="left")
    for name in ("symbol", "timeframe", "state"):
        table.add_column(name)
    for name in ("next window (UTC)", "newest source (UTC)", "lag", "failures"):
        table.add_column(name, justify="right")
    table.add_column("last error", overflow="fold", max_width=60)
    for task in tasks:
        table.add_row(
            task.symbol,
            task.timeframe,
            _state(task),
            _time(task.cursor_utc),
            _time(task.newest_source_utc),
            "-" if task.lag_windows is None else str(task.lag_windows),
            str(task.hard_fail_streak + task.transient_streak),
            task.last_error or "",
        )
    return table


def bar_table(bars: Iterable[BarSummary], health: Iterable[TaskHealth]) -> Table:
    """One row per symbol and timeframe: live bars by quality score (2 complete ... -1 poor) and lag in windows."""
    lag = {(h.symbol, h.timeframe): h.lag_windows for h in health}
    table = Table(title="Bars", title_justify="left")
    for name in ("symbol", "timeframe"):
        table.add_column(name)
    for name in ("bars", "first (UTC)", "last (UTC)", "quality 2", "1", "0", "-1", "revised", "lag"):
        table.add_column(name, justify="right")
    for row in bars:
        behind = lag.get((row.symbol, row.timeframe))
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
            "-" if behind is None else str(behind),
        )
    return table


class Levels(Protocol):
    """What became of each timeframe."""

    @property
    def levels(self) -> Mapping[str, LevelRebuild]: ...


def rebuild_table(parts: Sequence[Levels], title: str = "Bars") -> Table:
    """One row per timeframe: bars that a rebuild (in one or more calls) wrote, or would write."""
    table = Table(title=title, title_justify="left")
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


def _state(task: TaskHealth) -> str:
    if task.is_paused:
        return "[yellow]paused[/]"
    if not task.enabled or task.status == "disabled":
        return "[red]disabled[/]"
    if task.status == "hard_failed":
        return "[bold red]hard_failed[/]"
    if task.newest_source_utc is None:
        return "waiting for data"
    return "[green]running[/]" if task.status == "running" else task.status


def _time(ts: dt.datetime | None) -> str:
    return "-" if ts is None else f"{ts:%Y-%m-%d %H:%M}"
