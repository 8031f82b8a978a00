"""What one run works on: an operator's choice, or what is due."""

import contextlib
import datetime as dt
from typing import Any

import dagster as dg
from pydantic import Field

from agg_pipeline.aggregation.selection import named_tasks
from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import opened_run
from agg_pipeline.settings import load_settings


class SelectConfig(dg.Config):
    """What one run works on. Everything is optional; a scheduled tick sets nothing."""

    symbols: list[str] | None = Field(
        default=None, description="Only these symbols. Default: every active asset of the environment."
    )
    timeframes: list[str] | None = Field(default=None, description="Only these of 5m, 15m, 1h, 4h, 1d. Default: all.")
    tasks: list[str] | None = Field(
        default=None,
        description="Exactly these tasks, each as SYMBOL/timeframe, whether due or backing off. Default: what is due.",
    )
    max_tasks: int | None = Field(default=None, ge=1, description="Tasks to take at most. Default: MAX_TASKS_PER_RUN.")
    max_windows: int | None = Field(
        default=None, ge=1, le=100_000, description="Windows to build per task. Default: MAX_WINDOWS_PER_TASK."
    )
    trigger: str | None = Field(
        default=None, description="Name in ops_runlog. Default: cron for a schedule or sensor, else manual."
    )
    now_utc: str | None = Field(
        default=None,
        description="Replay: ISO time with offset to take for now, e.g. 2026-01-05T10:01:00Z. Default: the "
        "database's clock.",
    )


def select(
    context: dg.OpExecutionContext, config: SelectConfig, supabase: SupabaseResource, now: dt.datetime | None
) -> list[DueTask]:
    """Open the run in ops_runlog and pick its tasks. Raises dg.Failure that says why nothing could be picked."""
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
            gateway.checkpoint(context.run_id, "cron_start", {"ts": (now or dt.datetime.now(dt.UTC)).isoformat()})
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
        # No retry heals a wrong key, and nobody looks for one behind a word like "transient".
        about = (
            "Somebody has to change a setting: nothing was selected."
            if exc.is_configuration
            else "Nothing was selected."
        )
        raise dg.Failure(f"{about} {exc}", allow_retries=False) from None
    return tasks


def trigger_of(context: dg.OpExecutionContext) -> str:
    """cron if a schedule or sensor started the run, manual if a person did, unless its config names another trigger."""
    ops: Any = context.run.run_config.get("ops", {})
    chosen: str | None = ops.get("select_due", {}).get("config", {}).get("trigger")
    automatic = {"dagster/schedule_name", "dagster/sensor_name"} & context.run.tags.keys()
    return chosen or ("cron" if automatic else "manual")


def replayed(now_utc: str | None) -> dt.datetime | None:
    """The time that a replay takes for now; None for a live run. Raises dg.Failure if it is no time with an offset."""
    if now_utc is None:
        return None
    with contextlib.suppress(ValueError):
        now = dt.datetime.fromisoformat(now_utc)
        if now.tzinfo is not None:
            return now.astimezone(dt.UTC)
    raise dg.Failure(
        f"now_utc={now_utc!r} is no time with an offset; write it as 2026-01-05T10:01:00Z.", allow_retries=False
    )
