"""Repair of wrong bars and cursors, such as a predecessor may have left.

The database finds them (agg_find_damage, agg_mend_cursors). Bars are corrected by a rebuild, so that their earlier
values stay readable as revisions.
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
from agg_pipeline.errors import LeaseLost, PermanentError
from agg_pipeline.market.timeframes import Timeframe, next_window, window_start

KINDS = {
    "missing": "no bar, though there are enough source bars",
    "half_built": "built before all of its source bars had arrived",
    "null_as_zero": "an unknown vwap, volume or trade count of a source bar was counted as 0",
    "different": "prices, flags or counts differ from a recomputation",
    "surplus": "a bar without enough source bars",
    "off_grid": "does not start at a window of its timeframe",
}
"""Kinds of damage to a bar, as named by ``agg_find_damage``, with their meaning."""


@dataclass
class TaskDamage:
    """Damage to the bars of one task: counts by kind, and the ranges that hold it.

    A bar is compared with its stored source bars, so that damage below it does not count again.
    """

    task: Task
    evaluated: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    ranges: list[tuple[dt.datetime, dt.datetime]] = field(default_factory=list)

    @property
    def bars(self) -> int:
        """Number of damaged bars."""
        return self.kinds.total()


@dataclass
class Repair:
    """Result of a repair, or of its plan: bad cursors, damage by task, counts of the rebuild by timeframe."""

    cursors: list[BadCursor]
    damage: list[TaskDamage] = field(default_factory=list)
    levels: dict[str, LevelRebuild] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # symbols that the database refused, and why

    @property
    def is_sound(self) -> bool:
        """True if there was nothing to repair. A frozen cursor needs no repair: the next tick moves it on."""
        is_right = all(c.kind == "frozen" for c in self.cursors) and not any(found.bars for found in self.damage)
        return is_right and not self.refused


def find_damage(gateway: AggGateway, task: Task, begin: dt.datetime, end: dt.datetime) -> TaskDamage:
    """Find damage in the built windows of one task in [begin, end). Raises GatewayError."""
    found = TaskDamage(task)
    while begin < end:
        page = gateway.find_damage(task, begin, end)
        found.evaluated += page.evaluated
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
    on_task: Callable[[], None] = lambda: None,
) -> Repair:
    """Find wrong bars and cursors and, if ``apply``, correct them; else the database rolls each correction back.

    Args:
        symbols: only these; empty: all.
        begin: windows before it are not evaluated; None: all of history.
        on_task: called after each task.
    Raises:
        LeaseLost: another run held the lease of a task for LEASE_WAIT_S. Earlier corrections are committed.
        GatewayError: a call failed.
    """
    bad = gateway.repair_cursors(symbols or None, dry_run=not apply)
    done = Repair(cursors=bad)
    for symbol, tasks in itertools.groupby(gateway.health(symbols or None), key=lambda task: task.symbol):
        try:
            _repair_symbol(gateway, done, list(tasks), begin, apply, on_task)
        except LeaseLost:
            raise
        except PermanentError as exc:
            if exc.is_configuration:
                raise
            done.refused[symbol] = str(exc)
    return done


def _repair_symbol(
    gateway: AggGateway, done: Repair, tasks: Sequence[TaskHealth], begin: dt.datetime | None, apply: bool,
    on_task: Callable[[], None],
) -> None:  # fmt: skip
    """Find, and if ``apply`` correct, the wrong bars of one symbol."""
    own = []
    for task in tasks:  # children before parents
        if (first := task.first_window_utc) is not None:  # else its own row is the damage
            own.append(find_damage(gateway, task, max(first, begin or first), _end(task, done.cursors)))
        on_task()
    done.damage += own
    if damaged := [found for found in own if found.bars]:
        # Starts at the shortest damaged timeframe; the rebuild includes those above, so each window is built once.
        for start, stop in _whole_days(r for found in damaged for r in found.ranges):
            for step in rebuild_steps(gateway, damaged[0].task, start, stop, dry_run=not apply):
                done.levels = add_levels(done.levels, step)


def _end(task: TaskHealth, bad: Sequence[BadCursor]) -> dt.datetime:
    """End of the built windows of a task, after the correction of its cursor."""
    for cursor in bad:
        if (cursor.symbol, cursor.timeframe, cursor.kind) == (task.symbol, task.timeframe, "future"):
            return cursor.to_utc or task.first_window_utc or task.built_until
    return task.built_until


def _whole_days(ranges: Iterable[tuple[dt.datetime, dt.datetime]]) -> list[tuple[dt.datetime, dt.datetime]]:
    """Ranges widened to windows of the longest timeframe and merged where they overlap or touch."""
    merged: list[tuple[dt.datetime, dt.datetime]] = []
    for start, stop in sorted(ranges):
        start, stop = window_start(start, Timeframe.D1), next_window(stop - dt.timedelta.resolution, Timeframe.D1)
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
