"""Execution of a unit of tasks: leases them and builds their next windows.

The failure of a task is an outcome, never an exception.
"""

import datetime as dt

from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.tasks import CatchupResult, DueTask, Lease, StartResult
from agg_pipeline.errors import GatewayError, LeaseLost, TransientError, is_transient
from agg_pipeline.settings import Settings


def execute_unit(
    unit: WorkUnit, gateway: AggGateway, settings: Settings, *, now: dt.datetime | None, owner: str
) -> list[TaskOutcome]:
    """Lease the tasks of a unit for ``owner`` and build their next windows.

    Args:
        now: the time that a replay takes for now; None: the clock of the database.
    Returns:
        One outcome per task, in the order of the unit.
    """
    try:
        started = gateway.start(unit.tasks, now=now, owner=owner, lease_seconds=settings.running_stale_seconds)
    except GatewayError as exc:
        return [_failure(task, None, exc) for task in unit.tasks]
    leases = [
        Lease(symbol=s.symbol, timeframe=s.timeframe, lease_token=s.lease_token)
        for s in started
        if s.lease_token is not None
    ]
    done: dict[tuple[str, str], CatchupResult | GatewayError] = {}
    if leases:
        try:
            results = gateway.catch_up(
                leases, now=now, max_windows=unit.max_windows, version=settings.agg_derivation_version
            )
            done = {(r.symbol, r.timeframe): r for r in results}
        except GatewayError as exc:
            done = {(lease.symbol, lease.timeframe): exc for lease in leases}
    return [_outcome(s, done.get((s.symbol, s.timeframe))) for s in started]


def _outcome(started: StartResult, done: CatchupResult | GatewayError | None) -> TaskOutcome:
    task = {"symbol": started.symbol, "timeframe": started.timeframe, "lease_token": started.lease_token}
    if started.lease_token is None or done is None:
        if isinstance(started.error, str):
            return TaskOutcome(**task, kind="busy", error=started.error)
        return TaskOutcome(
            **task, kind="hard", error=started.error.message if started.error else "the database gave no reason"
        )
    if isinstance(done, GatewayError):
        return _failure(started, started.lease_token, done)
    if done.error is not None:
        code, text = done.error.sqlstate, f"{done.error.sqlstate} {done.error.message}. {done.error.hint or ''}".strip()
        kind = "lost" if code == "AG001" else "transient" if is_transient(code) else "hard"
        return TaskOutcome(**task, kind=kind, error=text)
    return TaskOutcome(**task, kind="success", result=done)


def _failure(task: StartResult | DueTask, token: int | None, exc: GatewayError) -> TaskOutcome:
    kind = "lost" if isinstance(exc, LeaseLost) else "transient" if isinstance(exc, TransientError) else "hard"
    return TaskOutcome(symbol=task.symbol, timeframe=task.timeframe, lease_token=token, kind=kind, error=str(exc))
