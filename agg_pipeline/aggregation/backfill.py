"""Backfill of a range of one symbol: builds the windows that were never built and rebuilds the others.

It works in steps of one or two seconds and returns every lease between them, so that no tick waits for long.
"""

import datetime as dt
import time
from collections.abc import Sequence

from pydantic import Field

from agg_pipeline.aggregation.execution import execute_unit
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task, Wire
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.database.models.rebuild import NOTHING_REBUILT, LevelRebuild, add_levels
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.database.rebuilding import LEASE_WAIT_S, OnProgress, rebuild_steps
from agg_pipeline.errors import PermanentError
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.settings import Settings

WINDOWS_PER_STEP = 20_000
"""Windows that one step builds per task: half a second of work, a few seconds on a small hosted database."""


class BackfillResult(Wire):
    """What the backfill of one symbol did, or in a dry run would do, by timeframe."""

    symbol: str
    levels: dict[str, LevelRebuild] = Field(default_factory=dict)
    unbuilt: dict[str, int] = Field(default_factory=dict, description="Dry run: windows that were never built.")
    failed: str | None = Field(default=None, description="Why the backfill stopped; None if it is complete.")

    def add(self, step: dict[str, LevelRebuild]) -> "BackfillResult":
        """A copy with the counts of one more step."""
        return self.model_copy(update={"levels": add_levels(self.levels, step)})


def backfill_symbol(
    gateway: AggGateway,
    symbol: str,
    timeframes: Sequence[Timeframe],
    begin: dt.datetime,
    end: dt.datetime,
    *,
    settings: Settings,
    owner: str,
    dry_run: bool = False,
    on_progress: OnProgress = lambda reached: None,
) -> BackfillResult:
    """Make the bars of ``symbol`` in [begin, end) equal to what their source gives, up through the timeframes above.

    Args:
        timeframes: the shortest ones are rebuilt; the timeframes that are built from them follow.
        owner: of the leases.
        dry_run: report what would change, change nothing.
        on_progress: called after each step with the time that has been reached.
    Raises:
        PermanentError: the symbol has none of these timeframes.
        LeaseLost: another run held the lease of a task for LEASE_WAIT_S.
        GatewayError: a step failed. Steps before it are committed.
    """
    tasks = {Timeframe(task.timeframe): task for task in gateway.health([symbol])}
    wanted = [t for t in timeframes if t in tasks]
    if not wanted:
        raise PermanentError(
            "agg_health", "AG002", f"{symbol} has no task of {', '.join(timeframes)}",
            f"It has: {', '.join(tasks)}." if tasks else "Load its bars first: agg-pipeline load FILE.",
        )  # fmt: skip
    result = BackfillResult(symbol=symbol)
    if dry_run:
        result = result.model_copy(update={"unbuilt": {t.value: tasks[t].backlog_windows or 0 for t in wanted}})
    else:
        result = _build(gateway, result, _with_sources(wanted, tasks), end, settings, owner, on_progress)
    for root in (t for t in wanted if LADDER[t] not in wanted):
        stop = min(end, tasks[root].built_until)
        task = Task(symbol=symbol, timeframe=root.value)
        for step in rebuild_steps(gateway, task, begin, stop, dry_run, on_progress):
            result = result.add(step)
    return result


def _build(
    gateway: AggGateway, result: BackfillResult, tasks: Sequence[TaskHealth], end: dt.datetime, settings: Settings,
    owner: str, on_progress: OnProgress,
) -> BackfillResult:  # fmt: skip
    """Build from each cursor to ``end``, or as far as there are source bars; children before parents."""
    due = [
        DueTask(symbol=t.symbol, timeframe=t.timeframe)
        for t in tasks
        if (at := t.cursor_utc or t.first_window_utc) is None or at < end
    ]
    deadline = time.monotonic() + LEASE_WAIT_S
    while due:
        # All tasks in each step: the bars that a child builds in one step are source bars of its parents in the next.
        unit = WorkUnit(tasks=tuple(due), max_windows=WINDOWS_PER_STEP)
        outcomes = execute_unit(unit, gateway, settings, now=None, owner=owner)
        held = [o for o in outcomes if o.lease_token is not None and o.kind != "lost"]
        if held:
            gateway.finish([o.to_finish() for o in held], now=None, hard_limit=settings.auto_disable_hard_fails)
        if failed := [o for o in outcomes if o.failed]:
            return result.model_copy(update={"failed": "; ".join(f"{o}: {o.error}" for o in failed)})
        result = result.add({o.timeframe: _counts(o) for o in outcomes})
        if reached := [o.result.frontier for o in outcomes if o.result and o.result.frontier]:
            on_progress(min(reached))
        if not any(_has_more(outcome, end) for outcome in outcomes):
            break
        if any(o.result and o.result.windows_processed for o in outcomes):
            deadline = time.monotonic() + LEASE_WAIT_S
        elif time.monotonic() > deadline:
            busy = ", ".join(str(o) for o in outcomes if o.kind != "success")
            why = f"{busy} was not free for {LEASE_WAIT_S:.0f} s: leased by another run, paused or disabled"
            return result.model_copy(update={"failed": why})
        else:
            time.sleep(1)
    return result


def _has_more(outcome: TaskOutcome, end: dt.datetime) -> bool:
    if outcome.kind != "success" or outcome.result is None:
        return True  # busy or lost: another run has leased the task
    return outcome.result.has_more and (outcome.result.frontier is None or outcome.result.frontier < end)


def _with_sources(wanted: Sequence[Timeframe], tasks: dict[Timeframe, TaskHealth]) -> list[TaskHealth]:
    """The tasks of these timeframes and of those that they are built from, shortest first."""
    needed = set(wanted)
    for timeframe in reversed(list(LADDER)):
        if timeframe in needed and LADDER[timeframe] in tasks:
            needed.add(LADDER[timeframe])
    return [tasks[timeframe] for timeframe in Timeframe if timeframe in needed]


def _counts(outcome: TaskOutcome) -> LevelRebuild:
    r = outcome.result
    if r is None:
        return NOTHING_REBUILT
    return LevelRebuild(written=r.bars_created, unchanged=0, revised=r.bars_revised, retired=r.bars_retired)
