"""Where the bars of a symbol are, by the health of its tasks: ranges that a reader gets who names none.

Imports no pandas, since commands that read no bars import it.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.timeframes import Timeframe

_KNOWN = frozenset(timeframe.value for timeframe in Timeframe)  # a database may have others


def extent(tasks: Sequence[TaskHealth]) -> tuple[dt.datetime, dt.datetime]:
    """First window of a symbol's tasks and the end of what is built; while nothing is, the end of the source bars.

    Both are now if no task has times that can be computed with.
    """
    begun = [(task.first_window_utc, task.cursor_utc) for task in tasks if task.first_window_utc is not None]
    first = min((first for first, _ in begun), default=None)
    built = [cursor for first, cursor in begun if cursor is not None and cursor != first]
    end = max(built) if built else end_of_source(tasks)
    now = dt.datetime.now(dt.UTC)
    return first or end or now, max(filter(None, (first, end)), default=now)


def end_of_source(tasks: Iterable[TaskHealth]) -> dt.datetime | None:
    """End of the newest source bar of the tasks; None if there is none."""
    ends = [
        task.newest_source_utc + Timeframe(task.source_timeframe).length
        for task in tasks
        if task.newest_source_utc is not None and task.source_timeframe in _KNOWN
    ]
    return max(ends, default=None)
