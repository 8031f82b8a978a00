"""Ticks without Dagster: the gateway calls of the ops, at a time that the test chooses."""

import datetime as dt

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.tasks import CatchupResult, Finish, Lease

ENVIRONMENT = "PROD"


def tick(
    gateway: AggGateway, now: dt.datetime, *, limit: int | None = None, max_windows: int = 100
) -> list[CatchupResult]:
    """One tick at ``now``: select due tasks, start, catch up, finish. Asserts that every task succeeds."""
    due = gateway.due_tasks(ENVIRONMENT, now=now, limit=limit, stale_seconds=900)
    if not due:
        return []
    started = gateway.start(due, now=now, owner="test", lease_seconds=900)
    assert all(s.success for s in started), started
    leases = [Lease(symbol=s.symbol, timeframe=s.timeframe, lease_token=s.lease_token) for s in started]
    results = gateway.catch_up(leases, now=now, max_windows=max_windows, version=1)
    assert not [r.error for r in results if r.error], results
    finished = gateway.finish(
        [
            Finish(symbol=r.symbol, timeframe=r.timeframe, lease_token=lease.lease_token, success=True)
            for r, lease in zip(results, leases, strict=True)
        ],
        now=now,
        hard_limit=3,
    )
    assert all(f.success for f in finished), finished
    return results


def tick_until_quiet(gateway: AggGateway, now: dt.datetime, *, max_windows: int = 1000, at_most: int = 500) -> int:
    """Tick at ``now`` until nothing is due; returns the number of ticks."""
    for n in range(at_most):
        if not tick(gateway, now, max_windows=max_windows):
            return n
    raise AssertionError(f"work is still due after {at_most} ticks at {now}")
