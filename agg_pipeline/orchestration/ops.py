"""The steps of a run: select the due tasks, aggregate, finish, close the run.

The failure of a task is an outcome that an op returns, never an exception: Dagster does not run the steps after one
that raises, so ``close_run`` would not run. ``close_run`` itself fails the run if a task failed.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import dagster as dg

from agg_pipeline.aggregation.execution import execute_unit
from agg_pipeline.aggregation.metrics import TimeframeTotals, run_report
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.aggregation.selection import WorkUnit, tasks_per_step, units, windows_per_task
from agg_pipeline.database.models.runs import TouchedDays
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.errors import GatewayError
from agg_pipeline.market.names import mapping_key
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline.orchestration.check_evaluations import carried_over
from agg_pipeline.orchestration.materializations import day_materializations, tick_materialization
from agg_pipeline.orchestration.metadata import failures_table
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import close, closed_if_terminated, warn
from agg_pipeline.orchestration.selection import SelectConfig, parse_now, select, trigger_of
from agg_pipeline.orchestration.tick_sample import TickMetrics, read_metrics, sample_checks
from agg_pipeline.settings import load_settings

T = TypeVar("T")

RUNLOG_KEEP = 2016
"""Rows of ops_runlog that are kept per job, trigger and environment: a week of ticks. The job retention goes by age."""

MAX_LINES = 50
"""Most tasks that a log message names; ops_runlog has all of them."""

FAILED_TASKS = "failed_tasks"
"""Metadata key of the failure of close_run: the tasks that failed, SYMBOL/timeframe each."""


@dg.op(
    out=dg.DynamicOut(WorkUnit, description="Tasks of one step, shorter timeframes first."),
)
def select_due(
    context: dg.OpExecutionContext, config: SelectConfig, supabase: SupabaseResource
) -> Iterator[dg.DynamicOutput[WorkUnit]]:
    """Open the run in ops_runlog and select the due tasks (agg_due_tasks): one dynamic output per unit."""
    settings, now = load_settings(), parse_now(config.now_utc)
    tasks = select(context, config, supabase, now)
    shown = ", ".join(map(str, tasks[:MAX_LINES])) + (", ..." if len(tasks) > MAX_LINES else "")
    context.log.info("%d tasks selected: %s", len(tasks), shown or "none is due")
    max_windows = config.max_windows or windows_per_task(len(tasks), settings)
    for n, unit in enumerate(units(tasks, tasks_per_step(len(tasks), settings))):
        yield dg.DynamicOutput(
            WorkUnit(tasks=tuple(unit), max_windows=max_windows, now_utc=now), mapping_key=unit_mapping_key(n, unit)
        )


def unit_mapping_key(n: int, unit: Sequence[DueTask]) -> str:
    """The task of the n-th unit, or how many symbols it holds; the number keeps the steps in due order."""
    symbols = len({task.symbol for task in unit})
    if symbols > 1:
        return f"{n:05d}_{symbols}_symbols"
    return f"{n:05d}_{mapping_key(unit[0].symbol)}_{unit[0].timeframe if len(unit) == 1 else f'{len(unit)}_timeframes'}"


@dg.op
def aggregate(context: dg.OpExecutionContext, supabase: SupabaseResource, unit: WorkUnit) -> list[TaskOutcome]:
    """Lease the tasks of a unit and build their next windows (agg_start_batch, catchup_aggregation_batch).

    Args:
        unit: tasks and limits; each cursor is read anew under its lease.
    Returns:
        One outcome per task, failures included.
    """
    with closed_if_terminated(context, supabase):
        outcomes = execute_unit(unit, supabase.gateway, load_settings(), now=unit.now_utc, owner=context.run_id)
    # Successes are metadata of the output: a log message would be one more event to store.
    done = [(str(o), o.result) for o in outcomes if o.kind == "success" and o.result is not None]
    context.add_output_metadata(
        {
            task: f"{r.windows_processed} windows, {r.bars_created} bars written, next window {r.frontier}"
            for task, r in done[:MAX_LINES]
        }
        | ({"and more tasks": len(done) - MAX_LINES} if len(done) > MAX_LINES else {})
    )
    _log_lines(context.log.warning, [f"{o}: {o.kind}. {o.error}" for o in outcomes if o.kind != "success"])
    return outcomes


# The in_process executor would run all aggregate steps first; the priority returns each lease before the next is taken.
@dg.op(tags={"dagster/priority": "10"})
def finish(
    context: dg.OpExecutionContext, supabase: SupabaseResource, unit: WorkUnit, outcomes: list[TaskOutcome]
) -> list[TaskOutcome]:
    """Return the leases with their outcomes (agg_finish_batch) and record the outcomes in ops_runlog.

    Args:
        unit: the tasks of the step.
        outcomes: their outcomes so far.
    Returns:
        The outcomes; those whose lease has expired meanwhile are lost.
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
            # A repetition of a call whose response was lost is refused; the first call has taken effect.
            refused = {(f.symbol, f.timeframe): f.error for f in finished if f.error and not f.error.repeated}
            outcomes = [
                o.as_failed("lost" if e.sqlstate == "AG001" else "hard", str(e))
                if (e := refused.get((o.symbol, o.timeframe)))
                else o
                for o in outcomes
            ]
            gateway.checkpoints(
                context.run_id,
                [
                    {"checkpoint": str(o), "details": {"outcome": o.kind, "error": o.error, **o.counts}}
                    for o in outcomes
                ],
            )
    except GatewayError as exc:
        # The bars are stored; the leases end with the run, and the next tick continues at the cursor.
        context.log.debug(traceback.format_exc())
        outcomes = [
            o if o.failed else o.as_failed("transient", f"The lease could not be returned. {exc}") for o in outcomes
        ]
    return outcomes


@dg.op(out=dg.Out(dg.Nothing))
def close_run(
    context: dg.OpExecutionContext, supabase: SupabaseResource, results: list[list[TaskOutcome]]
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Report a materialization per timeframe, close the run in ops_runlog, check a sample of the new bars.

    Args:
        results: outcomes of every step.
    Raises:
        dg.Failure: tasks failed; its message and metadata name them.
    """
    outcomes = [outcome for result in results for outcome in result]
    failed = [o for o in outcomes if o.failed]
    timeframes = dict.fromkeys(o.timeframe for o in outcomes)  # in due order, shortest first
    totals = [TimeframeTotals.of(timeframe, outcomes) for timeframe in timeframes]
    metrics = _read_or_warn(
        context, "Lag and quality", TickMetrics(), lambda: read_metrics(supabase.gateway, outcomes, totals)
    )
    # Yielded, not logged: Dagster drops logged events of a step that fails. The newest day of a timeframe comes last.
    reported = {
        (total.timeframe, total.newest_window_utc.date())
        for total in totals
        if total.failed < total.tasks and total.newest_window_utc is not None
    }
    touched = _read_or_warn(context, "Days that changed", TouchedDays.none(), supabase.gateway.touched_days)
    other_days = list(day_materializations(touched, reported, context.run_id))
    yield from other_days
    for total in totals:
        if total.failed < total.tasks:
            yield tick_materialization(total, metrics, context.run_id, environment=supabase.environment)
    _read_or_warn(context, "Days that were reported", None, lambda: supabase.gateway.forget_touched_days(touched))
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
        raise dg.Failure(f"The bars are stored, but the run could not be closed in ops_runlog. {exc}") from None
    with closed_if_terminated(context, supabase):
        none: list[dg.AssetCheckEvaluation] = []
        evaluations = _read_or_warn(
            context, "A sample of the bars", none,
            lambda: sample_checks(supabase.gateway, outcomes, metrics, seed=context.run_id),
        )  # fmt: skip
    yield from evaluations
    shown = {bars_key(timeframe) for timeframe, _ in reported} | {one.asset_key for one in other_days}
    yield from _read_or_warn(
        context, "Earlier results of checks", none,
        lambda: list(carried_over(context.instance, shown, [one.asset_check_key for one in evaluations])),
    )  # fmt: skip
    if failed:
        named = "; ".join(f"{o} ({o.kind}): {o.error}" for o in failed[:10])
        raise dg.Failure(
            f"{len(failed)} of {len(outcomes)} tasks failed: {named}",
            metadata={
                "what failed": dg.MetadataValue.md(failures_table(failed)),
                FAILED_TASKS: [str(o) for o in failed],
                "failed": len(failed),
                "tasks": len(outcomes),
            },
            allow_retries=False,
        )


def _read_or_warn(context: dg.OpExecutionContext, what: str, default: T, read: Callable[[], T]) -> T:
    """Result of ``read``, or ``default``: the bars are stored, so an error while reading them must not fail the run."""
    try:
        return read()
    except Exception as exc:
        warn(context.log, f"{what} could not be read; the bars are stored all the same. {exc}")
        return default


def _log_lines(log: Callable[[str], None], lines: Sequence[str]) -> None:
    """Log all lines as one message: each message is a row of Dagster's event log, and a thousand take seconds."""
    if lines:
        more = [f"... and {len(lines) - MAX_LINES} more"] if len(lines) > MAX_LINES else []
        log("\n".join([*lines[:MAX_LINES], *more]))
