"""The steps of a run: what is due, the work on it, the books.

An op here never raises for the failure of a task: a raising step would keep ``close_run`` from running at all, and the
tasks after it from being told. It returns an outcome; ``close_run`` makes the run red.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from agg_pipeline.errors import GatewayError
from agg_pipeline.gateway import AggGateway
from agg_pipeline.models import DueTask, TaskOutcome, TimeframeTotals, WorkUnit
from agg_pipeline.resources import SupabaseResource
from agg_pipeline.settings import load_settings
from agg_pipeline.work import units, work_on

RUNLOG_KEEP = 10
WINDOWS_TAG = "agg/windows"
"""Run tag: how many windows the run built. The sensor catch_up goes on only after a run that built some."""


PLOTTED = (
    "tasks",
    "failed",
    "windows_processed",
    "bars_created",
    "bars_revised",
    "bars_retired",
    "bars_quality_poor",
    "source_rejected",
)
"""Figures of a timeframe that its asset's page plots over time."""


class SelectConfig(dg.Config):
    """What one run works on. Everything is optional; a scheduled tick sets nothing."""

    symbols: list[str] | None = Field(
        default=None, description="Only these symbols. Default: every active asset of the environment."
    )
    timeframes: list[str] | None = Field(default=None, description="Only these of 5m, 15m, 1h, 4h, 1d. Default: all.")
    max_tasks: int | None = Field(default=None, ge=1, description="Tasks to take at most. Default: MAX_TASKS_PER_RUN.")
    max_windows: int | None = Field(
        default=None, ge=1, le=100_000, description="Windows to build per task. Default: MAX_WINDOWS_PER_TASK."
    )
    trigger: str | None = Field(
        default=None, description="Name in ops_runlog. Default: cron for a schedule or sensor, else manual."
    )
    now_utc: str | None = Field(
        default=None,
        description="Replay: ISO time with offset to take for now, e.g. 2026-01-05T10:01:00Z. Default: the clock.",
    )


@dg.op(
    out=dg.DynamicOut(WorkUnit, description="Tasks of one step, shorter timeframes first."),
)
def select_due(
    context: dg.OpExecutionContext, config: SelectConfig, supabase: SupabaseResource
) -> Iterator[dg.DynamicOutput[WorkUnit]]:
    """Open the run in ops_runlog and pick what is due (agg_get_due_tasks): one dynamic output per step, or none."""
    settings, gateway = load_settings(), supabase.gateway
    now, replay = _now(config.now_utc), config.now_utc is not None
    try:
        gateway.check_contract()
        gateway.open_run(
            context.run_id, job=settings.job_name, trigger=_trigger(context), environment=supabase.environment
        )
        gateway.checkpoint(context.run_id, "cron_start", {"ts": now.isoformat()})
        tasks = gateway.due_tasks(
            supabase.environment,
            now=now,
            limit=config.max_tasks or settings.max_tasks_per_run,
            stale_seconds=settings.running_stale_seconds,
            symbols=config.symbols,
            timeframes=config.timeframes,
        )
        gateway.checkpoint(context.run_id, "selected_due_tasks", {"task_count": len(tasks)})
    except GatewayError as exc:
        _close_quietly(context, gateway, exc)
        raise dg.Failure(f"Nothing was selected. {exc}", allow_retries=False) from None
    shown = ", ".join(map(str, tasks[:50])) + (", ..." if len(tasks) > 50 else "")
    context.log.info("%d tasks selected: %s", len(tasks), shown or "none is due")
    for n, unit in enumerate(units(tasks, settings.tasks_per_step)):
        # The number keeps BTC-USD and BTC/USD apart and the steps in due order.
        yield dg.DynamicOutput(
            WorkUnit(
                tasks=tuple(unit),
                max_windows=config.max_windows or settings.max_windows_per_task,
                now_utc=now if replay else None,
            ),
            mapping_key=f"{n:05d}_{_slug(unit)}",
        )


@dg.op
def aggregate(context: dg.OpExecutionContext, supabase: SupabaseResource, unit: WorkUnit) -> list[TaskOutcome]:
    """Lease the tasks of a unit and build their next windows (agg_start_batch, catchup_aggregation_batch).

    Args:
        unit: tasks and limits; each cursor is read again under the lease, never trusted from here.
    Returns:
        One outcome per task. Failures are returned, not raised: a raised one would stop close_run.
    """
    settings, gateway, now = load_settings(), supabase.gateway, unit.now_utc or _now(None)
    try:
        outcomes = work_on(unit, gateway, settings, now=now, owner=context.run_id)
    except BaseException:
        # Terminated from the UI, which is no Exception: free the leases now instead of when they go stale.
        with contextlib.suppress(GatewayError):
            gateway.release(context.run_id)
        raise
    for outcome in outcomes:
        if outcome.kind == "success" and outcome.result is not None:
            r = outcome.result
            context.log.info(
                "%s: %d windows, %d bars written, next window %s",
                outcome,
                r.windows_processed,
                r.bars_created,
                r.frontier,
            )
        else:
            context.log.warning("%s: %s. %s", outcome, outcome.kind, outcome.error)
    return outcomes


@dg.op(tags={"dagster/priority": "10"})  # in_process goes breadth first; this frees each lease before the next is taken
def finish(
    context: dg.OpExecutionContext, supabase: SupabaseResource, unit: WorkUnit, outcomes: list[TaskOutcome]
) -> list[TaskOutcome]:
    """Give the leases back with what happened (agg_finish_batch) and note it in ops_runlog. A lost lease is an outcome.

    Args:
        unit: the tasks that were worked on.
        outcomes: what aggregate made of them.
    Returns:
        The outcomes, those whose lease was gone by now as lost.
    """
    settings, gateway, now = load_settings(), supabase.gateway, unit.now_utc or _now(None)
    held = [o for o in outcomes if o.lease_token is not None and o.kind != "lost"]
    try:
        finished = gateway.finish(held, now=now, hard_limit=settings.auto_disable_hard_fails) if held else []
        refused = {(f.symbol, f.timeframe): f.error for f in finished if f.error is not None}
        outcomes = [
            o.revised("lost" if e.sqlstate == "AG001" else "hard", e.message)
            if (e := refused.get((o.symbol, o.timeframe)))
            else o
            for o in outcomes
        ]
        gateway.checkpoints(
            context.run_id,
            [{"checkpoint": str(o), "details": {"outcome": o.kind, "error": o.error, **_figures(o)}} for o in outcomes],
        )
    except GatewayError as exc:
        # The windows stand; the leases end when they go stale, and the next tick goes on from there.
        outcomes = [
            o if o.failed else o.revised("transient", f"The lease could not be given back. {exc}") for o in outcomes
        ]
    return outcomes


@dg.op
def close_run(context: dg.OpExecutionContext, supabase: SupabaseResource, results: list[list[TaskOutcome]]) -> None:
    """Close the run in ops_runlog, plot one materialization per timeframe, and fail naming the tasks that failed.

    Args:
        results: outcomes of every step.
    """
    settings, gateway = load_settings(), supabase.gateway
    outcomes = [outcome for result in results for outcome in result]
    failed = [o for o in outcomes if o.failed]
    timeframes = dict.fromkeys(o.timeframe for o in outcomes)  # in due order, shortest first
    totals = [TimeframeTotals.of(timeframe, outcomes) for timeframe in timeframes]
    for total in totals:
        context.log_event(_materialization(total, environment=supabase.environment))
    context.instance.add_run_tags(context.run_id, {WINDOWS_TAG: str(sum(t.windows_processed for t in totals))})
    stats: dict[str, object] = {
        "tasks": len(outcomes),
        "failed": [str(o) for o in failed],
        "bars_created": sum(t.bars_created for t in totals),
        "bars_quality_poor": sum(t.bars_quality_poor for t in totals),
    }
    try:
        gateway.close_run(context.run_id, success=not failed, stats=stats)
        gateway.prune_runs(job=settings.job_name, trigger=_trigger(context), keep=RUNLOG_KEEP)
    except GatewayError as exc:
        raise dg.Failure(f"The bars stand, but the run could not be closed in ops_runlog. {exc}") from None
    if failed:
        shown = "; ".join(f"{o} ({o.kind}): {o.error}" for o in failed[:10])
        raise dg.Failure(
            f"{len(failed)} of {len(outcomes)} tasks failed: {shown}",
            metadata={"failed_tasks": [str(o) for o in failed], "failed": len(failed), "tasks": len(outcomes)},
            allow_retries=False,
        )


def _figures(outcome: TaskOutcome) -> dict[str, object]:
    r = outcome.result
    if r is None:
        return {}
    return {
        "windows": r.windows_processed,
        "bars": r.bars_created,
        "revised": r.bars_revised,
        "retired": r.bars_retired,
        "rejected": r.source_rejected,
        "has_more": r.has_more,
    }


def _materialization(total: TimeframeTotals, *, environment: str) -> dg.AssetMaterialization:
    figures: dict[str, dg.MetadataValue] = {name: dg.MetadataValue.int(getattr(total, name)) for name in PLOTTED}
    if total.newest_window_utc is not None:
        figures["newest_window_utc"] = dg.MetadataValue.timestamp(total.newest_window_utc)
    return dg.AssetMaterialization(
        asset_key=f"bars_{total.timeframe}",
        metadata=figures,
        description=f"{total.bars_created} {total.timeframe} bars of {total.tasks} symbols written in {environment}.",
    )


def _close_quietly(context: dg.OpExecutionContext, gateway: AggGateway, reason: GatewayError) -> None:
    try:
        gateway.close_run(context.run_id, success=False, stats={"error": str(reason)})
    except GatewayError as exc:
        context.log.warning("The run stays open in ops_runlog: %s", exc)


def _trigger(context: dg.OpExecutionContext) -> str:
    """cron if a schedule or sensor started the run, manual if a person did, unless its config names another trigger."""
    ops: Any = context.run.run_config.get("ops", {})
    chosen: str | None = ops.get("select_due", {}).get("config", {}).get("trigger")
    automatic = {"dagster/schedule_name", "dagster/sensor_name"} & context.run.tags.keys()
    return chosen or ("cron" if automatic else "manual")


def _now(replay_utc: str | None) -> dt.datetime:
    if replay_utc is None:
        return dt.datetime.now(dt.UTC)
    now = dt.datetime.fromisoformat(replay_utc)
    if now.tzinfo is None:
        raise dg.Failure(
            f"now_utc={replay_utc!r} has no offset; write it as 2026-01-05T10:01:00Z.", allow_retries=False
        )
    return now.astimezone(dt.UTC)


def _slug(unit: Sequence[DueTask]) -> str:
    return "".join(c if c.isalnum() else "_" for c in f"{unit[0].symbol}_{unit[0].timeframe}")
