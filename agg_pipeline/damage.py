"""Find and mend what a predecessor left wrong: bars that their source does not give, cursors at impossible places.

What is wrong is the database's word (agg_find_damage, agg_mend_cursors), and bars are mended on the road that every
rebuild takes, so that what a bar was before stays readable as an earlier revision.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from agg_pipeline.filling import Filled, rebuild_steps
from agg_pipeline.gateway import AggGateway
from agg_pipeline.models import BadCursor, Task, TaskHealth

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
    filled: Filled = field(default_factory=lambda: Filled(symbol=""))

    @property
    def is_sound(self) -> bool:
        return not self.cursors and not any(found.bars for found in self.damage)


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
    tell: Callable[[TaskDamage], None] = lambda found: None,
) -> Repair:
    """Find what is wrong and, if ``apply``, mend it; children before parents.

    Args:
        symbols: only these; empty: all.
        begin: no window before it is judged; None: all of history.
        tell: called after each task.
    Raises:
        LeaseLost: another run kept a task for two minutes. What was mended before stays.
    """
    bad = [cursor for cursor in gateway.mend_cursors(dry_run=not apply) if not symbols or cursor.symbol in symbols]
    done = Repair(cursors=bad)
    for task in _tasks(gateway.health(symbols or None)):
        found = find_damage(gateway, task, max(task.first_window_utc, begin or task.first_window_utc), _end(task, bad))
        done.damage.append(found)
        for start, stop in found.ranges:
            for step in rebuild_steps(gateway, task, start, stop, dry_run=not apply):
                done.filled = done.filled.plus(step)
        tell(found)
    return done


def _tasks(health: Sequence[TaskHealth]) -> Iterator[TaskHealth]:
    """As the database lists them: by symbol, a symbol's children before its parents."""
    return iter(health)


def _end(task: TaskHealth, bad: Sequence[BadCursor]) -> dt.datetime:
    """Where the built windows of a task end, once its cursor is mended."""
    for cursor in bad:
        if (cursor.symbol, cursor.timeframe, cursor.kind) == (task.symbol, task.timeframe, "future"):
            return cursor.to_utc or task.first_window_utc
    return task.cursor_utc or task.first_window_utc
