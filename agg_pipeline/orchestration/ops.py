"""The steps of a run: what is due, the work on it, the books.

An op here never raises for the failure of a task: a raising step would keep ``close_run`` from running at all, and the
tasks after it from being told. It returns an outcome; ``close_run`` makes the run red.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import dagster as dg

from agg_pipeline.aggregation.execution import work_on
from agg_pipeline.aggregation.metrics import TimeframeTotals, run_report
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit, units
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.check_evaluations import asset_key
from agg_pipeline.orchestration.metadata import day_metadata, failures_table, runlog_metadata
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import close, closed_if_terminated, warn
from agg_pipeline.orchestration.selection import SelectConfig, replayed, select, trigger_of
from agg_pipeline.orchestration.tick_sample import Figures, read_figures, sample_checks
from agg_pipeline.reading.wording import counted
from agg_pipeline.settings import load_settings

T = TypeVar("T")

RUNLOG_KEEP = 2016
"""Rows of ops_runlog that stay per job, trigger and environment: a week of ticks. The job retention goes by age."""

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

LINES_SHOWN = 50
"""Tasks that a message of the log names at most; ops_runlog has all of them."""

FAILED_TASKS = "failed_tasks"
"""Metadata of close_run's failure: the tasks that failed, SYMBOL/timeframe each."""


@dg.op(
    out=dg.DynamicOut(WorkUnit, description="Tasks of one step, shorter timeframes first."),
)
def select_due(
    context: dg.OpExecutionContext, config: SelectConfig, supabase: SupabaseResource
) -> Iterator[dg.DynamicOutput[WorkUnit]]:
    """Open the run in ops_runlog and pick what is due (agg_get_due_tasks): one dynamic output per step, or none."""
    settings, now = load_settings(), replayed(config.now_utc)
    tasks = select(context, config, supabase, now)
    shown = ", ".join(map(str, tasks[:LINES_SHOWN])) + (", ..." if len(tasks) > LINES_SHOWN else "")
    context.log.info("%d tasks selected: %s", len(tasks), shown or "none is due")
    for n, unit in enumerate(units(tasks, settings.tasks_per_step)):
        # The number keeps BTC-USD and BTC/USD apart and the steps in due order.
        yield dg.DynamicOutput(
            WorkUnit(tasks=tuple(unit), max_windows=config.max_windows or settings.max_windows_per_task, now_utc=now),
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
    with closed_if_terminated(context, supabase):
        outcomes = work_on(unit, supabase.gateway, load_settings(), now=unit.now_utc, owner=context.run_id)
    # What went well is told by the step's output: a line of the log would be another event to store.
    done = [(str(o), o.result) for o in outcomes if o.kind == "success" and o.result is not None]
    context.add_output_metadata(
        {
            task: f"{r.windows_processed} windows, {r.bars_created} bars written, next window {r.frontier}"
            for task, r in done[:LINES_SHOWN]
        }
        | ({"and more tasks": len(done) - LINES_SHOWN} if len(done) > LINES_SHOWN else {})
    )
    _log_lines(context.log.warning, [f"{o}: {o.kind}. {o.error}" for o in outcomes if o.kind != "success"])
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
    settings, gateway = load_settings(), supabase.gateway
    held = [o for o in outcomes if o.lease_token is not None and o.kind != "lost"]
    try:
        with closed_if_terminated(context, supabase):
            finished = (
                gateway.finish(
                    [o.to_finish() for o in held], now=unit.now_utc, hard_limit=settings.auto_disable_hard_fails
                )
                if held
                else []
            )
            # A call that is repeated because its answer was lost is refused; what it told the first time stands.
            refused = {(f.symbol, f.timeframe): f.error for f in finished if f.error and not f.error.repeated}
            outcomes = [
                o.revised("lost" if e.sqlstate == "AG001" else "hard", e.message)
                if (e := refused.get((o.symbol, o.timeframe)))
                else o
                for o in outcomes
            ]
            gateway.checkpoints(
                context.run_id,
                [
                    {"checkpoint": str(o), "details": {"outcome": o.kind, "error": o.error, **o.figures}}
                    for o in outcomes
                ],
            )
    except GatewayError as exc:
        # The windows stand; the leases end with the run, and the next tick goes on from there.
        context.log.debug(traceback.format_exc())
        outcomes = [
            o if o.failed else o.revised("transient", f"The lease could not be given back. {exc}") for o in outcomes
        ]
    return outcomes


@dg.op(out=dg.Out(dg.Nothing))
def close_run(
    context: dg.OpExecutionContext, supabase: SupabaseResource, results: list[list[TaskOutcome]]
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Plot one materialization per timeframe, close the run in ops_runlog, check a sample of what was written.

    Raises dg.Failure that names the tasks that failed.

    Args:
        results: outcomes of every step.
    """
    outcomes = [outcome for result in results for outcome in result]
    failed = [o for o in outcomes if o.failed]
    timeframes = dict.fromkeys(o.timeframe for o in outcomes)  # in due order, shortest first
    totals = [TimeframeTotals.of(timeframe, outcomes) for timeframe in timeframes]
    figures = _looked_at(
        context, "Lag and quality", Figures(), lambda: read_figures(supabase.gateway, outcomes, totals)
    )
    for total in totals:
        if total.failed < total.tasks:
            # Yielded, for what is only logged is lost when the step fails.
            yield _materialization(total, figures, context.run_id, environment=supabase.environment)
    context.instance.add_run_tags(context.run_id, {tags.WINDOWS: str(sum(t.windows_processed for t in totals))})
    report = run_report(context.run_id, outcomes, totals)
    stats: dict[str, object] = {
        "tasks": len(outcomes),
        "failed": [str(o) for o in failed],
        "bars_created": report.metrics["bars_created"],
        "bars_quality_poor": report.metrics["bars_quality_poor"],
    }
    try:
        with closed_if_terminated(context, supabase):
            close(context, supabase, stats, report)
            supabase.gateway.prune_runs(job=load_settings().job_name, trigger=trigger_of(context), keep=RUNLOG_KEEP)
    except GatewayError as exc:
        raise dg.Failure(f"The bars stand, but the run could not be closed in ops_runlog. {exc}") from None
    with closed_if_terminated(context, supabase):
        nothing: list[dg.AssetCheckEvaluation] = []
        found = _looked_at(
            context, "A sample of the bars", nothing,
            lambda: sample_checks(supabase.gateway, outcomes, figures, seed=context.run_id),
        )  # fmt: skip
    yield from found
    if failed:
        shown = "; ".join(f"{o} ({o.kind}): {o.error}" for o in failed[:10])
        raise dg.Failure(
            f"{len(failed)} of {len(outcomes)} tasks failed: {shown}",
            metadata={
                "what failed": dg.MetadataValue.md(failures_table(failed)),
                FAILED_TASKS: [str(o) for o in failed],
                "failed": len(failed),
                "tasks": len(outcomes),
            },
            allow_retries=False,
        )


def _looked_at(context: dg.OpExecutionContext, what: str, otherwise: T, look: Callable[[], T]) -> T:
    """Whatever goes wrong in looking at bars, the bars stand, and the run is no failure."""
    try:
        return look()
    except Exception as exc:
        warn(context.log, f"{what} could not be looked at, which changes nothing about the run. {exc}")
        return otherwise


def _materialization(
    total: TimeframeTotals, figures: Figures, run_id: str, *, environment: str
) -> dg.AssetMaterialization:
    metadata: dict[str, dg.MetadataValue] = {name: dg.MetadataValue.int(getattr(total, name)) for name in PLOTTED}
    if (lag := figures.lag(total.timeframe)) is not None:
        metadata["backlog_windows"] = dg.MetadataValue.int(lag)
    if total.newest_window_utc is not None:
        metadata["newest_window_utc"] = dg.MetadataValue.timestamp(total.newest_window_utc)
        if (day := figures.day(total.timeframe, total.newest_window_utc.date())) is not None:
            metadata |= day_metadata(day)
    return dg.AssetMaterialization(
        asset_key=asset_key(total.timeframe),
        partition=_day_of(total),
        metadata=metadata | runlog_metadata(run_id),
        description=f"{total.bars_created} {total.timeframe} bars written by {counted(total.tasks, 'task')} "
        f"in {environment}.",
    )


def _day_of(total: TimeframeTotals) -> str | None:
    """The partition of the newest window, where it is one that can be picked for a backfill."""
    newest = total.newest_window_utc
    return newest.date().isoformat() if newest is not None and newest.date() >= load_settings().first_day else None


def _log_lines(log: Callable[[str], None], lines: Sequence[str]) -> None:
    """One message for all: each is a row in Dagster's event log, and a thousand of them take seconds to write."""
    if lines:
        more = [f"... and {len(lines) - LINES_SHOWN} more"] if len(lines) > LINES_SHOWN else []
        log("\n".join([*lines[:LINES_SHOWN], *more]))


def _slug(unit: Sequence[DueTask]) -> str:
    return "".join(c if c.isalnum() else "_" for c in f"{unit[0].symbol}_{unit[0].timeframe}")
