"""Selection of the tasks of one run: those that are due, or those that an operator names."""

import contextlib
import datetime as dt
from typing import Any

import dagster as dg
from pydantic import Field

from agg_pipeline.aggregation.selection import named_tasks
from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.errors import GatewayError, PermanentError
from agg_pipeline.market.names import SymbolError, check_symbol
from agg_pipeline.market.times import parse_iso
from agg_pipeline.orchestration.calendar_refresh import fill_or_warn
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import opened_run
from agg_pipeline.settings import load_settings


class SelectConfig(dg.Config):
    """Tasks and limits of one run. Every field is optional; a scheduled tick sets none."""

    symbols: list[str] | None = Field(
        default=None, description="Only these symbols. Default: every active asset of the environment."
    )
    timeframes: list[str] | None = Field(default=None, description="Only these of 5m, 15m, 1h, 4h, 1d. Default: all.")
    tasks: list[str] | None = Field(
        default=None,
        description="Exactly these tasks, each as SYMBOL/timeframe, due or not. Default: the due tasks.",
    )
    max_tasks: int | None = Field(default=None, ge=1, description="Most tasks to process. Default: MAX_TASKS_PER_RUN.")
    max_windows: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Most windows to build per task. Default: an equal share of MAX_WINDOWS_PER_RUN, at least "
        "MAX_WINDOWS_PER_TASK.",
    )
    trigger: str | None = Field(
        default=None, description="Trigger in ops_runlog. Default: cron for a schedule or sensor, else manual."
    )
    now_utc: str | None = Field(
        default=None,
        description="Replay: the time to take for now, ISO with offset, e.g. 2026-01-05T10:01:00Z. Default: the clock "
        "of the database.",
    )


def select(
    context: dg.OpExecutionContext, config: SelectConfig, supabase: SupabaseResource, now: dt.datetime | None
) -> list[DueTask]:
    """Open the run in ops_runlog and select its tasks. Raises dg.Failure with the reason if it cannot."""
    settings, gateway = load_settings(), supabase.gateway
    try:
        gateway.check_contract()
        with opened_run(
            context,
            supabase,
            job=settings.job_name,
            trigger=trigger_of(context),
            report=RunReport.nothing_selected,
        ):
            _check_names(config)
            gateway.checkpoint(context.run_id, "cron_start", {"ts": (now or dt.datetime.now(dt.UTC)).isoformat()})
            fill_or_warn(context.log, gateway)
            if config.tasks:
                tasks = named_tasks(config.tasks, gateway)
            else:
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
        # A wrong key counts as transient, as in the predecessor, but no retry heals it: the message says so.
        summary = (
            "No task was selected, and a setting has to be changed."
            if exc.is_configuration
            else "No task was selected."
        )
        raise dg.Failure(f"{summary} {exc}", allow_retries=False) from None
    return tasks


def _check_names(config: SelectConfig) -> None:
    """Raise PermanentError for a symbol that is none; an unknown task is an error of its own."""
    try:
        for name in config.symbols or []:
            check_symbol(name)
    except SymbolError as exc:
        raise PermanentError("select_due", type(exc).__name__, str(exc), "Correct the run config.") from None


def trigger_of(context: dg.OpExecutionContext) -> str:
    """Trigger for ops_runlog: that of the run config, else cron if a schedule or sensor started it, else manual."""
    ops: Any = context.run.run_config.get("ops", {})
    chosen: str | None = ops.get("select_due", {}).get("config", {}).get("trigger")
    automatic = {"dagster/schedule_name", "dagster/sensor_name"} & context.run.tags.keys()
    return chosen or ("cron" if automatic else "manual")


def parse_now(now_utc: str | None) -> dt.datetime | None:
    """Time that a replay takes for now; None for a live run. Raises dg.Failure if it is no time with an offset."""
    if now_utc is None:
        return None
    with contextlib.suppress(ValueError):
        now = parse_iso(now_utc)
        if now.tzinfo is not None:
            return now
    raise dg.Failure(
        f"now_utc={now_utc!r} is not a time with an offset; write it as 2026-01-05T10:01:00Z.", allow_retries=False
    )
