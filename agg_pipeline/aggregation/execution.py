"""Execution of a unit of tasks: leases them and builds their next windows.

The failure of a task is an outcome, never an exception.
"""

import datetime as dt

from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import CatchupResult, Lease, Refusal, StartResult
from agg_pipeline.errors import GatewayError, LeaseLost, TransientError, is_transient
from agg_pipeline.settings import Settings


def execute_unit(
    unit: WorkUnit, gateway: AggGateway, settings: Settings, *, now: dt.datetime | None, owner: str
) -> list[TaskOutcome]:
    """Lease the tasks of a unit for ``owner`` and build their next windows.

    Args:
        now: the time that a replay takes for now; None: the clock of the database.
    Returns:
        One outcome per task, in the order of the unit; those that the database left out are the last.
    """
    left_out = [_refused(task, None, task.error) for task in unit.tasks if task.error is not None]
    tasks = [task for task in unit.tasks if task.error is None]
    try:
        started = (
            gateway.start(tasks, now=now, owner=owner, lease_seconds=settings.running_stale_seconds) if tasks else []
        )
    except GatewayError as exc:
        return [_failure(task, None, exc) for task in tasks] + left_out
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
    return [_outcome(s, done.get((s.symbol, s.timeframe))) for s in started] + left_out


def _outcome(started: StartResult, done: CatchupResult | GatewayError | None) -> TaskOutcome:
    token = started.lease_token
    if token is None or done is None:
        if isinstance(started.error, Refusal):
            return _refused(started, token, started.error)
        kind = "busy" if started.error else "hard"
        error = started.error or "the database gave no reason"
        return TaskOutcome(
            symbol=started.symbol, timeframe=started.timeframe, lease_token=token, kind=kind, error=error
        )
    if isinstance(done, GatewayError):
        return _failure(started, token, done)
    if done.error is not None:
        return _refused(started, token, done.error)
    return TaskOutcome(
        symbol=started.symbol, timeframe=started.timeframe, lease_token=token, kind="success", result=done
    )


def _refused(task: Task, token: int | None, error: Refusal) -> TaskOutcome:
    kind = "lost" if error.sqlstate == "AG001" else "transient" if is_transient(error.sqlstate) else "hard"
    return TaskOutcome(symbol=task.symbol, timeframe=task.timeframe, lease_token=token, kind=kind, error=str(error))


def _failure(task: Task, token: int | None, exc: GatewayError) -> TaskOutcome:
    kind = "lost" if isinstance(exc, LeaseLost) else "transient" if isinstance(exc, TransientError) else "hard"
    return TaskOutcome(symbol=task.symbol, timeframe=task.timeframe, lease_token=token, kind=kind, error=str(exc))
