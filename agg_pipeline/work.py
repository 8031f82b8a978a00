"""Work on a unit of tasks: cut due tasks into units, lease them, catch them up, say what became of each.

Belongs here: what can be said of tasks without Dagster. A task's failure is an outcome here, never an exception.
"""

import datetime as dt
from collections.abc import Iterator, Sequence

from agg_pipeline.errors import GatewayError, LeaseLost, PermanentError, TransientError, is_transient
from agg_pipeline.gateway import AggGateway
from agg_pipeline.models import CatchupResult, DueTask, Lease, StartResult, WorkUnit
from agg_pipeline.outcomes import TaskOutcome
from agg_pipeline.settings import Settings


def units(tasks: Sequence[DueTask], size: int) -> Iterator[list[DueTask]]:
    """Cut due tasks into steps of about ``size`` tasks, in due order; none but a size of 1 splits a symbol's tasks."""
    if size == 1:
        yield from ([task] for task in tasks)
        return
    by_symbol: dict[str, list[DueTask]] = {}
    for task in tasks:
        by_symbol.setdefault(task.symbol, []).append(task)
    unit: list[DueTask] = []
    for chain in by_symbol.values():
        if unit and len(unit) + len(chain) > size:
            yield unit
            unit = []
        unit.extend(chain)
    if unit:
        yield unit


def named_tasks(names: Sequence[str], gateway: AggGateway) -> list[DueTask]:
    """Tasks by name, SYMBOL/timeframe each, children before parents. PermanentError names those that are not there."""
    symbols = {name.rpartition("/")[0] for name in names}
    there = {str(task): task for task in gateway.health(sorted(symbols))}
    if unknown := [name for name in names if name not in there]:
        raise PermanentError(
            "agg_health",
            "AG002",
            f"there is no task {', '.join(unknown)}",
            f"There are: {', '.join(there)}."
            if there
            else "Write each as SYMBOL/timeframe, as `agg-pipeline status` does.",
        )
    return [DueTask(symbol=task.symbol, timeframe=task.timeframe) for name, task in there.items() if name in names]


def work_on(
    unit: WorkUnit, gateway: AggGateway, settings: Settings, *, now: dt.datetime | None, owner: str
) -> list[TaskOutcome]:
    """Lease the tasks of a unit for ``owner`` and build their next windows; one outcome per task, in order."""
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
            **task, kind="hard", error=started.error.message if started.error else "the database said nothing"
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
