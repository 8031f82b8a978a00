"""Find and mend what a predecessor left wrong: bars that their source does not give, cursors at impossible places.

What is wrong is the database's word (agg_find_damage, agg_mend_cursors), and bars are mended on the road that every
rebuild takes, so that what a bar was before stays readable as an earlier revision.
"""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.database.models.rebuild import BadCursor, LevelRebuild, add_levels
from agg_pipeline.database.rebuilding import rebuild_steps
from agg_pipeline.market.timeframes import Timeframe, next_window, window_start

KINDS = {
    "missing": "no bar, though the source gives one",
    "half_built": "built before all of its source bars were there",
    "null_as_zero": "a source bar's unknown vwap, volume or trade count was taken for 0",
    "different": "prices, flags or counts that its source does not give",
    "surplus": "a bar, though the source gives none",
    "off_grid": "starts where no window of its timeframe does",
}
"""Kinds of damage to a bar, as ``agg_find_damage`` names them, and what each means."""


@dataclass
class TaskDamage:
    """Damage to the bars of one task. Bars of a parent are judged against its children as they are stored."""

    task: Task
    judged: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)

    @property
    def bars(self) -> int:
        return self.kinds.total()


@dataclass
class Repair:
    """What a repair did, or would do."""

    cursors: list[BadCursor]
    damage: list[TaskDamage] = field(default_factory=list)
    levels: dict[str, LevelRebuild] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether there was nothing to mend; a frozen cursor is passed by the next tick without us."""
        return all(c.kind == "frozen" for c in self.cursors) and not any(found.bars for found in self.damage)


def find_damage(gateway: AggGateway, task: Task, begin: dt.datetime, end: dt.datetime) -> TaskDamage:
    """Judge the built windows of one task in [begin, end)."""
    found = TaskDamage(task)
    while begin < end:
        page = gateway.find_damage(task, begin, end)
        found.judged += page.judged
        found.kinds.update(page.kinds)
        if page.from_utc and page.to_utc:
            found.ranges.append((page.from_utc, page.to_utc))
        if not page.has_more:
            break
        begin = page.next_from_utc
    return found


def repair(
    gateway: AggGateway,
    *,
    symbols: Sequence[str] = (),
    begin: dt.datetime | None = None,
    apply: bool,
    tell: Callable[[], None] = lambda: None,
) -> Repair:
    """Find what is wrong and, if ``apply``, mend it. A plan does the same and takes it back, so that its figures hold.

    Args:
        symbols: only these; empty: all.
        begin: no window before it is judged; None: all of history.
        tell: called after each task.
    Raises:
        LeaseLost: another run kept a task for two minutes. What was mended before stays.
    """
    bad = gateway.repair_cursors(symbols or None, dry_run=not apply)
    done = Repair(cursors=bad)
    for _, tasks in itertools.groupby(gateway.health(symbols or None), key=lambda task: task.symbol):
        own = []
        for task in tasks:  # children before parents
            first = task.first_window_utc
            own.append(find_damage(gateway, task, max(first, begin or first), _end(task, bad)))
            tell()
        done.damage += own
        if damaged := [found for found in own if found.bars]:
            # From the shortest timeframe that is damaged: those above follow, each window once.
            for start, stop in _whole_days(r for found in damaged for r in found.ranges):
                for step in rebuild_steps(gateway, damaged[0].task, start, stop, dry_run=not apply):
                    done.levels = add_levels(done.levels, step)
    return done


def _end(task: TaskHealth, bad: Sequence[BadCursor]) -> dt.datetime:
    """Where the built windows of a task end, once its cursor is mended."""
    for cursor in bad:
        if (cursor.symbol, cursor.timeframe, cursor.kind) == (task.symbol, task.timeframe, "future"):
            return cursor.to_utc or task.first_window_utc
    return task.cursor_utc or task.first_window_utc


def _whole_days(ranges: Iterable[tuple[dt.datetime, dt.datetime]]) -> list[tuple[dt.datetime, dt.datetime]]:
    """Ranges widened to windows of the longest timeframe, those that touch merged."""
    merged: list[tuple[dt.datetime, dt.datetime]] = []
    for start, stop in sorted(ranges):
        start, stop = window_start(start, Timeframe.D1), next_window(stop - dt.timedelta.resolution, Timeframe.D1)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
