"""Calls of a tick: sync tasks, select due ones, lease, catch up, finish."""

import datetime as dt
import logging
from collections.abc import Iterable, Sequence

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.assets import SyncResult
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import (
    CatchupResult,
    DueTask,
    DueTasks,
    Finish,
    FinishResult,
    Lease,
    Refusal,
    StartResult,
)
from agg_pipeline.errors import TransientError

log = logging.getLogger(__name__)

_SPLIT_CODES = frozenset({"57014", "55P03"})  # statement timeout; lock timeout


class TaskCalls(Calls):
    """Sync, select, lease, catch up, finish and release tasks."""

    def sync(self, environment: str) -> SyncResult:
        """Create the tasks that the environment's active assets lack (sync_agg_state_from_registry)."""
        return self._call("sync_agg_state_from_registry", SyncResult, p_env_name=environment)

    def due_tasks(
        self,
        environment: str,
        *,
        now: dt.datetime | None,
        limit: int | None,
        stale_seconds: int,
        symbols: Sequence[str] | None = None,
        timeframes: Sequence[str] | None = None,
    ) -> list[DueTask]:
        """At most ``limit`` due tasks, shorter timeframes first (agg_due_tasks).

        Tasks for which the database raised an error follow them, with ``error`` set, whatever the limit.
        """
        due = self._call(
            "agg_due_tasks",
            DueTasks,
            p_env_name=environment,
            p_now_utc=now,
            p_limit=limit,
            p_running_stale_seconds=stale_seconds,
            p_symbols=symbols or None,
            p_timeframes=timeframes or None,
        )
        return [*due.tasks, *due.failed]

    def start(
        self, tasks: Iterable[Task], *, now: dt.datetime | None, owner: str, lease_seconds: int
    ) -> list[StartResult]:
        """Lease tasks; returns one result per task, in order (agg_start_batch)."""
        return self._call(
            "agg_start_batch",
            list[StartResult],
            p_tasks=[_task_name(task) for task in tasks],
            p_now_utc=now,
            p_owner=owner,
            p_lease_seconds=lease_seconds,
        )

    def catch_up(
        self, leases: Sequence[Lease], *, now: dt.datetime | None, max_windows: int, version: int
    ) -> list[CatchupResult]:
        """Build the next windows of leased tasks, at most ``max_windows`` each (catchup_aggregation_batch).

        Returns one result per lease, in order. After a statement timeout the call is repeated with half the windows;
        if that is not enough, or after a lock timeout, with each half of the leases. So a failure of one task becomes
        the error of its result and leaves the others alone; with a single lease it is raised.
        """
        alone = len(leases) < 2
        try:
            return self._call(
                "catchup_aggregation_batch",
                list[CatchupResult],
                left_to_caller={"57014"} if alone else _SPLIT_CODES,
                p_tasks=[{**_task_name(it), "lease_token": it.lease_token} for it in leases],
                p_now_utc=now,
                p_max_windows=max_windows,
                p_derivation_version=version,
            )
        except TransientError as exc:
            if exc.code == "57014" and max_windows > 1:
                parts, max_windows = [leases], max_windows // 2
            elif exc.code in _SPLIT_CODES and not alone:
                parts = [leases[: len(leases) // 2], leases[len(leases) // 2 :]]
            else:
                raise
            log.warning("%s Trying %d call(s) of at most %d windows a task.", exc, len(parts), max_windows)
        results = []
        for part in parts:
            try:
                results += self.catch_up(part, now=now, max_windows=max_windows, version=version)
            except TransientError as exc:
                if alone or exc.code not in _SPLIT_CODES:
                    raise
                why = Refusal(sqlstate=exc.code, message=exc.message, hint=exc.hint)
                results += [CatchupResult(symbol=it.symbol, timeframe=it.timeframe, error=why) for it in part]
        return results

    def finish(self, finished: Iterable[Finish], *, now: dt.datetime | None, hard_limit: int) -> list[FinishResult]:
        """End leases and record their results; returns one result per element, in order (agg_finish_batch)."""
        return self._call(
            "agg_finish_batch",
            list[FinishResult],
            p_results=[one.model_dump(by_alias=True) for one in finished],
            p_now_utc=now,
            p_auto_disable_hard_fail_threshold=hard_limit,
        )

    def release(self, owner: str) -> int:
        """Free all leases of an owner; returns how many there were (agg_release)."""
        return self._call("agg_release", dict[str, int], p_owner=owner)["released"]


def _task_name(task: Task) -> dict[str, object]:
    return {"canonical_symbol": task.symbol, "timeframe": task.timeframe}
