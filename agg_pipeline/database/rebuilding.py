"""Rebuild of a range of any length, as a sequence of calls that each stay under the statement timeout."""

import datetime as dt
import time
from collections.abc import Callable, Iterator

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.rebuild import LevelRebuild
from agg_pipeline.errors import LeaseLost

LEASE_WAIT_S = 120.0
"""Longest wait for a task that another run has leased, in seconds."""

OnProgress = Callable[[dt.datetime], None]
"""Called after each step with the time that has been reached."""


def rebuild_steps(
    gateway: AggGateway,
    task: Task,
    begin: dt.datetime,
    end: dt.datetime,
    dry_run: bool,
    on_progress: OnProgress = lambda reached: None,
) -> Iterator[dict[str, LevelRebuild]]:
    """Rebuild [begin, end) of ``task`` and of the timeframes built from it; yield counts by timeframe for each step.

    Args:
        dry_run: report what would change, change nothing.
    Raises:
        LeaseLost: another run held the lease of the task for LEASE_WAIT_S.
        GatewayError: a step failed. Steps before it are committed.
    """
    deadline = time.monotonic() + LEASE_WAIT_S
    while begin < end:
        try:
            step = gateway.rebuild(task, begin, end, dry_run=dry_run)
        except LeaseLost:  # another run has leased the task
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
            continue
        yield step.levels
        on_progress(step.next_from_utc)
        if not step.has_more:
            return
        begin, deadline = step.next_from_utc, time.monotonic() + LEASE_WAIT_S
