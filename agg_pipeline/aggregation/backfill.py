"""Fill a range of time of one symbol: build what was never built, compute again what was.

In steps that take a second or two each, with every lease given back between them, so that a tick never waits for long.
"""

import datetime as dt
import time
from collections.abc import Callable, Sequence

from pydantic import Field

from agg_pipeline.aggregation.execution import work_on
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task, Wire
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.database.models.rebuild import NOTHING_REBUILT, LevelRebuild, add_levels
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.database.rebuilding import LEASE_WAIT_S, rebuild_steps
from agg_pipeline.errors import PermanentError
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.settings import Settings

WINDOWS_A_STEP = 20_000
"""Windows that one step builds per task: half a second of work, a few seconds on a small hosted database."""


Tell = Callable[[dt.datetime], None]


class Filled(Wire):
    """What filling a range of one symbol did, or would do, per timeframe."""

    symbol: str
    levels: dict[str, LevelRebuild] = Field(default_factory=dict)
    unbuilt: dict[str, int] = Field(default_factory=dict, description="Plan: windows that were never built.")
    failed: str | None = None

    def plus(self, step: dict[str, LevelRebuild]) -> "Filled":
        """With the figures of one more step."""
        return self.model_copy(update={"levels": add_levels(self.levels, step)})


def fill(
    gateway: AggGateway,
    symbol: str,
    timeframes: Sequence[Timeframe],
    begin: dt.datetime,
    end: dt.datetime,
    *,
    settings: Settings,
    owner: str,
    dry_run: bool = False,
    tell: Tell = lambda reached: None,
) -> Filled:
    """Bring the bars of ``symbol`` in [begin, end) to what their source gives, also those above ``timeframes``.

    Args:
        timeframes: the shortest ones are rebuilt, and what is built from them follows.
        owner: of the leases that building takes.
        dry_run: change nothing, say what would change.
        tell: called with the time that was reached, again and again.
    Raises:
        PermanentError: the symbol has none of these timeframes, or another run kept its tasks for two minutes.
    """
    tasks = {Timeframe(task.timeframe): task for task in gateway.health([symbol])}
    wanted = [t for t in timeframes if t in tasks]
    if not wanted:
        raise PermanentError(
            "agg_health", "AG002", f"{symbol} has no task of {', '.join(timeframes)}",
            f"It has: {', '.join(tasks)}." if tasks else "Load its bars first: agg-pipeline load FILE.",
        )  # fmt: skip
    filled = Filled(symbol=symbol)
    if dry_run:
        filled = filled.model_copy(update={"unbuilt": {t.value: tasks[t].backlog_windows or 0 for t in wanted}})
    else:
        filled = _build(gateway, filled, _with_sources(wanted, tasks), end, settings, owner, tell)
    for root in (t for t in wanted if LADDER[t] not in wanted):
        stop = min(end, tasks[root].cursor_utc or tasks[root].first_window_utc)
        for step in rebuild_steps(gateway, Task(symbol=symbol, timeframe=root.value), begin, stop, dry_run, tell):
            filled = filled.plus(step)
    return filled


def _build(
    gateway: AggGateway, filled: Filled, tasks: Sequence[TaskHealth], end: dt.datetime, settings: Settings,
    owner: str, tell: Tell,
) -> Filled:  # fmt: skip
    """From each cursor to the end of the range, or of what there is; children before parents."""
    due = [DueTask(symbol=t.symbol, timeframe=t.timeframe) for t in tasks if t.cursor_utc is None or t.cursor_utc < end]
    patient_until = time.monotonic() + LEASE_WAIT_S
    while due:
        # All of them each time: what a child builds in this step is work for its parents in the next one.
        unit = WorkUnit(tasks=tuple(due), max_windows=WINDOWS_A_STEP)
        outcomes = work_on(unit, gateway, settings, now=None, owner=owner)
        held = [o for o in outcomes if o.lease_token is not None and o.kind != "lost"]
        if held:
            gateway.finish([o.to_finish() for o in held], now=None, hard_limit=settings.auto_disable_hard_fails)
        if failed := [o for o in outcomes if o.failed]:
            return filled.model_copy(update={"failed": "; ".join(f"{o}: {o.error}" for o in failed)})
        filled = filled.plus({o.timeframe: _figures(o) for o in outcomes})
        if reached := [o.result.frontier for o in outcomes if o.result and o.result.frontier]:
            tell(min(reached))
        if not any(_goes_on(outcome, end) for outcome in outcomes):
            break
        if any(o.result and o.result.windows_processed for o in outcomes):
            patient_until = time.monotonic() + LEASE_WAIT_S
        elif time.monotonic() > patient_until:
            busy = ", ".join(str(o) for o in outcomes if o.kind != "success")
            why = f"{busy} was not free for {LEASE_WAIT_S:.0f} s: leased by another run, paused or disabled"
            return filled.model_copy(update={"failed": why})
        else:
            time.sleep(1)
    return filled


def _goes_on(outcome: TaskOutcome, end: dt.datetime) -> bool:
    if outcome.kind != "success" or outcome.result is None:
        return True  # busy or lost: another run has it at the moment
    return outcome.result.has_more and (outcome.result.frontier is None or outcome.result.frontier < end)


def _with_sources(wanted: Sequence[Timeframe], tasks: dict[Timeframe, TaskHealth]) -> list[TaskHealth]:
    """The tasks of these timeframes and those that they are built from, shortest first."""
    needed = set(wanted)
    for timeframe in reversed(list(LADDER)):
        if timeframe in needed and LADDER[timeframe] in tasks:
            needed.add(LADDER[timeframe])
    return [tasks[timeframe] for timeframe in Timeframe if timeframe in needed]


def _figures(outcome: TaskOutcome) -> LevelRebuild:
    r = outcome.result
    if r is None:
        return NOTHING_REBUILT
    return LevelRebuild(written=r.bars_created, unchanged=0, revised=r.bars_revised, retired=r.bars_retired)
