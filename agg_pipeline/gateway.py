"""The database as the pipeline sees it: one typed method per database function.

Belongs here: names of functions and parameters, the models of what they return, and asking for less at once. Does not:
when to call (ops), how and how often (transport), what the database decides (its functions).
"""

import datetime as dt
import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

from agg_pipeline.errors import PermanentError, TransientError
from agg_pipeline.models import (
    BarsPage,
    BarSummary,
    CatchupResult,
    DueTask,
    ExpiredRuns,
    FinishResult,
    Lease,
    LoadResult,
    OpenRun,
    RebuildResult,
    Refusal,
    StartResult,
    SyncResult,
    Task,
    TaskHealth,
)
from agg_pipeline.outcomes import RunReport, TaskOutcome
from agg_pipeline.transport import Transport, retries

log = logging.getLogger(__name__)
T = TypeVar("T")

CONTRACT = 1
"""Version of the database functions that this package calls (``agg_contract``)."""

_TOO_MUCH_AT_ONCE = frozenset({"57014", "55P03"})  # statement timeout; a row that somebody else holds


class AggGateway:
    """Every method raises TransientError or PermanentError (LeaseLost for AG001), and nothing else.

    ``now`` is None but for a replay: then the database's clock counts, and a wrong one here does no harm.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # --- what there is to do

    def check_contract(self) -> None:
        """Raises PermanentError that names the command to run if the database is not one that this package can use."""
        try:
            version = self._call("agg_contract", int)
        except PermanentError as exc:
            if exc.code not in ("PGRST202", "42883"):
                raise
            version = 0
        if version < CONTRACT:
            found = "has none of our functions" if version == 0 else f"is at contract {version}"
            raise PermanentError(
                "agg_contract",
                "contract",
                f"the database {found}, this package needs {CONTRACT}",
                "Run `agg-pipeline migrate` against it.",
            )

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
        """Due tasks, shorter timeframes first, at most ``limit`` (agg_get_due_tasks)."""
        return self._call(
            "agg_get_due_tasks",
            list[DueTask],
            p_env_name=environment,
            p_now_utc=now,
            p_limit=limit,
            p_running_stale_seconds=stale_seconds,
            p_symbols=symbols or None,
            p_timeframes=timeframes or None,
        )

    # --- working on tasks

    def start(
        self, tasks: Iterable[Task], *, now: dt.datetime | None, owner: str, lease_seconds: int
    ) -> list[StartResult]:
        """Lease tasks; one result per task, in order (agg_start_batch)."""
        return self._call(
            "agg_start_batch",
            list[StartResult],
            p_tasks=_named(tasks),
            p_now_utc=now,
            p_owner=owner,
            p_lease_seconds=lease_seconds,
        )

    def catch_up(
        self, leases: Sequence[Lease], *, now: dt.datetime | None, max_windows: int, version: int
    ) -> list[CatchupResult]:
        """Build the next windows of leased tasks, at most ``max_windows`` each (catchup_aggregation_batch).

        One result per lease, in order. What is too much for one call becomes smaller ones: half the windows after a
        statement timeout (the rest comes next time), half the leases where that is not enough or one has a row that
        somebody else holds. So trouble with one task stays with it: an error in its result, raised only if it is alone.
        """
        alone = len(leases) < 2
        try:
            return self._call(
                "catchup_aggregation_batch",
                list[CatchupResult],
                left_to_caller={"57014"} if alone else _TOO_MUCH_AT_ONCE,
                p_tasks=[_json(lease) for lease in leases],
                p_now_utc=now,
                p_max_windows=max_windows,
                p_derivation_version=version,
            )
        except TransientError as exc:
            if exc.code == "57014" and max_windows > 1:
                parts, max_windows = [leases], max_windows // 2
            elif exc.code in _TOO_MUCH_AT_ONCE and not alone:
                parts = [leases[: len(leases) // 2], leases[len(leases) // 2 :]]
            else:
                raise
            log.warning("%s Trying %d call(s) of at most %d windows a task.", exc, len(parts), max_windows)
        results = []
        for part in parts:
            try:
                results += self.catch_up(part, now=now, max_windows=max_windows, version=version)
            except TransientError as exc:
                if alone or exc.code not in _TOO_MUCH_AT_ONCE:
                    raise
                why = Refusal(sqlstate=exc.code, message=exc.message, hint=exc.hint)
                results += [CatchupResult(symbol=it.symbol, timeframe=it.timeframe, error=why) for it in part]
        return results

    def finish(
        self, outcomes: Iterable[TaskOutcome], *, now: dt.datetime | None, hard_limit: int
    ) -> list[FinishResult]:
        """Give leases back with what happened; one result per outcome, in order (agg_finish_batch)."""
        results = [
            {
                **_task_name(o),
                "lease_token": o.lease_token,
                "success": o.kind == "success",
                "fail_kind": o.kind,
                "error": o.error,
                "stats": o.result
                and {"bars_created": o.result.bars_created, "bars_quality_poor": o.result.bars_quality_poor},
            }
            for o in outcomes
        ]
        return self._call(
            "agg_finish_batch",
            list[FinishResult],
            p_results=results,
            p_now_utc=now,
            p_auto_disable_hard_fail_threshold=hard_limit,
        )

    # --- the diary of runs

    def open_run(self, run_id: str, *, job: str, trigger: str, environment: str) -> None:
        """Open the run's row in ops_runlog; a second call changes nothing (ops_runlog_start)."""
        self._call(
            "ops_runlog_start", object, p_run_id=run_id, p_job_name=job, p_trigger=trigger, p_env_name=environment
        )

    def checkpoint(self, run_id: str, name: str, details: dict[str, object]) -> None:
        """Note that the run reached a point (ops_runlog_checkpoint)."""
        self._call("ops_runlog_checkpoint", object, p_run_id=run_id, p_checkpoint=name, p_details=details)

    def checkpoints(self, run_id: str, points: Sequence[dict[str, object]]) -> None:
        """Note several points, each {checkpoint, details}, in one call (ops_runlog_checkpoints)."""
        self._call("ops_runlog_checkpoints", object, p_run_id=run_id, p_points=list(points))

    def close_run(self, run_id: str, *, success: bool, stats: dict[str, object]) -> None:
        """Close the run's row and free the leases that it still holds (ops_runlog_finish)."""
        self._call(
            "ops_runlog_finish", object, p_run_id=run_id, p_status="success" if success else "failed", p_stats=stats
        )

    def prune_runs(self, *, job: str, trigger: str, keep: int) -> None:
        """Keep the newest rows of a job, trigger and environment (ops_runlog_prune)."""
        self._call("ops_runlog_prune", object, p_job_name=job, p_trigger=trigger, p_keep=keep)

    def report_run(self, run_id: str, report: RunReport, *, environment: str, slot: dt.datetime | None = None) -> None:
        """Tell dashboards how the run went (ops_report_run)."""
        self._call(
            "ops_report_run",
            object,
            p_run_id=run_id,
            p_env_name=environment,
            p_status=report.status,
            p_scheduled_for_utc=slot,
            p_errors=report.errors,
            p_metrics=report.metrics,
            p_issues=report.issues,
        )

    def open_runs(self, environment: str) -> list[OpenRun]:
        """Runs of the environment that have not said how they ended (ops_runlog_open)."""
        return self._call("ops_runlog_open", list[OpenRun], p_env_name=environment)

    def expire_runs(self, *, job: str, environment: str, keep_days: int, limit: int) -> ExpiredRuns:
        """Delete rows of runs older than ``keep_days``, at most ``limit`` (ops_runlog_expire)."""
        return self._call(
            "ops_runlog_expire",
            ExpiredRuns,
            p_job_name=job,
            p_env_name=environment,
            p_keep_days=keep_days,
            p_limit=limit,
        )

    # --- an operator's word

    def pause(
        self, symbol: str, timeframe: str | None, *, reason: str, actor: str, until: dt.datetime | None = None
    ) -> int:
        """Pause a task, or all of a symbol, until resumed or ``until``; how many (agg_pause_task)."""
        paused = self._call(
            "agg_pause_task",
            dict[str, Any],
            p_symbol=symbol,
            p_tf=timeframe,
            p_reason=reason,
            p_actor=actor,
            p_until_utc=until,
        )
        return int(paused["tasks"])

    def resume(self, symbol: str, timeframe: str | None, *, actor: str) -> int:
        """End a pause and put failed tasks back to work; how many tasks (agg_resume_task)."""
        resumed = self._call("agg_resume_task", dict[str, Any], p_symbol=symbol, p_tf=timeframe, p_actor=actor)
        return int(resumed["tasks"])

    # --- raw bars, and what an operator looks at

    def register_asset(self, symbol: str, *, start: dt.datetime, base_timeframe: str) -> SyncResult:
        """Register an asset if it is new and create its tasks, which begin at ``start`` (agg_register_asset)."""
        return self._call(
            "agg_register_asset", SyncResult, p_symbol=symbol, p_agg_start_utc=start, p_base_timeframe=base_timeframe
        )

    def load_bars(self, bars: Sequence[dict[str, object]], *, timeframe: str, source: str) -> LoadResult:
        """Upsert raw bars (agg_load_bars); keys are the columns of data_bars."""
        return self._call("agg_load_bars", LoadResult, p_bars=list(bars), p_timeframe=timeframe, p_source=source)

    def health(self, symbols: Sequence[str] | None = None) -> list[TaskHealth]:
        """One row per task (agg_health)."""
        return self._call("agg_health", list[TaskHealth], p_symbols=symbols or None)

    def bar_summary(self, symbols: Sequence[str] | None = None) -> list[BarSummary]:
        """Live derived bars per task (agg_bar_summary)."""
        return self._call("agg_bar_summary", list[BarSummary], p_symbols=symbols or None)

    def bars_page(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> BarsPage:
        """Raw and live derived bars of a symbol in [begin, end), as they stood at one moment (agg_bars_page)."""
        return self._call("agg_bars_page", BarsPage, p_symbol=symbol, p_from_utc=begin, p_to_utc=end)

    def rebuild(
        self, task: Task, begin: dt.datetime, end: dt.datetime, *, dry_run: bool, version: int | None = None
    ) -> RebuildResult:
        """Compute built windows again up through the levels, or plan to; at most 5000 a call (agg_rebuild_range)."""
        return self._call(
            "agg_rebuild_range",
            RebuildResult,
            p_symbol=task.symbol,
            p_tf=task.timeframe,
            p_from_utc=begin,
            p_to_utc=end,
            p_dry_run=dry_run,
            p_derivation_version=version,
        )

    def close(self) -> None:
        self._transport.close()

    def _call(self, function: str, returns: type[T], *, left_to_caller: Collection[str] = (), **params: object) -> T:
        return retries.call(self._transport, function, returns, params, left_to_caller)


def _task_name(task: Task) -> dict[str, object]:
    return {"canonical_symbol": task.symbol, "timeframe": task.timeframe}


def _json(lease: Lease) -> dict[str, object]:
    return {**_task_name(lease), "lease_token": lease.lease_token}


def _named(tasks: Iterable[Task]) -> list[dict[str, object]]:
    return [_task_name(task) for task in tasks]
