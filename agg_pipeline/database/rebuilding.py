"""A rebuild of any length as a sequence of calls, each of which stays well under the statement limit."""

import datetime as dt
import time
from collections.abc import Callable, Iterator

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.rebuild import LevelRebuild
from agg_pipeline.errors import LeaseLost

PATIENCE_S = 120.0
"""How long another run's lease on the task is waited for."""

Tell = Callable[[dt.datetime], None]


def rebuild_steps(
    gateway: AggGateway,
    task: Task,
    begin: dt.datetime,
    end: dt.datetime,
    dry_run: bool,
    tell: Tell = lambda reached: None,
) -> Iterator[dict[str, LevelRebuild]]:
    """Rebuild step by step, also what is built from ``task``; the figures of each step per timeframe.

    Raises LeaseLost if another run kept the task for two minutes.
    """
    patient_until = time.monotonic() + PATIENCE_S
    while begin < end:
        try:
            step = gateway.rebuild(task, begin, end, dry_run=dry_run)
        except LeaseLost:  # another run is at work there
            if time.monotonic() > patient_until:
                raise
            time.sleep(1)
            continue
        yield step.levels
        tell(step.next_from_utc)
        if not step.has_more:
            return
        begin, patient_until = step.next_from_utc, time.monotonic() + PATIENCE_S
