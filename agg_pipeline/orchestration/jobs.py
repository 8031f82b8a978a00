"""The jobs: ticks (agg_master), retention and calendars."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.calendar_refresh import refresh_calendars
from agg_pipeline.orchestration.executors import executor_for, io_manager_for
from agg_pipeline.orchestration.ops import aggregate, close_run, finish, select_due
from agg_pipeline.orchestration.retention import delete_old_runs
from agg_pipeline.orchestration.run_tags import environment_tags, run_tags
from agg_pipeline.orchestration.selection import SelectConfig
from agg_pipeline.settings import Settings


@dg.graph
def aggregate_due_bars() -> None:
    """Build the bars that are due: select, aggregate and finish each unit, close the run."""
    due = select_due()
    close_run(due.map(lambda unit: finish(unit, aggregate(unit))).collect())


def build_job(settings: Settings, resources: Mapping[str, object]) -> dg.JobDefinition:
    """Job agg_master for one environment. Everything in its run config is optional."""
    return aggregate_due_bars.to_job(
        name="agg_master",
        description=(
            "Builds the bars that are due: at most MAX_TASKS_PER_RUN tasks, which share MAX_WINDOWS_PER_RUN windows."
            "\n\n"
            "Do not re-execute a run from failure: Dagster drops steps of a dynamic graph. Launch the job again "
            "instead; tasks are in the database, so no work is lost."
        ),
        tags=run_tags(settings, "tick")
        | {
            tags.TICK: settings.env_name.value.lower(),
            "dagster/max_runtime": str(settings.running_stale_seconds - 30),
        },
        resource_defs={**resources, **io_manager_for(settings)},
        # Initial content of the Launchpad; a run without config takes the same values from the settings.
        config=dg.RunConfig(
            ops={
                "select_due": SelectConfig(
                    symbols=[],
                    timeframes=[],
                    max_tasks=settings.max_tasks_per_run,
                )
            }
        ),
        executor_def=executor_for(settings),
    )


def build_retention_job(settings: Settings, resources: Mapping[str, object]) -> dg.JobDefinition:
    """Job retention for one environment."""
    return delete_old_runs.to_job(
        name="retention",
        description="Deletes runs that ended RETENTION_DAYS ago, with their event logs and their rows in ops_runlog.",
        tags=run_tags(settings, "retention") | {"dagster/max_runtime": "3600"},
        resource_defs={**resources, "io_manager": dg.mem_io_manager},
        executor_def=dg.in_process_executor,
    )


def build_calendar_job(settings: Settings, resources: Mapping[str, object]) -> dg.JobDefinition:
    """Job calendars for one environment."""
    return refresh_calendars.to_job(
        name="calendars",
        description="Refreshes trading_sessions for years ahead and logs every session that has changed.",
        tags=run_tags(settings, "calendars") | {"dagster/max_runtime": "900"},
        resource_defs={**resources, "io_manager": dg.mem_io_manager},
        executor_def=dg.in_process_executor,
    )


def tick_runs(job: dg.JobDefinition, settings: Settings, **narrowed: Any) -> dg.RunsFilter:
    """Filter for the runs of the job in this environment; ``narrowed`` are further arguments of RunsFilter."""
    return dg.RunsFilter(job_name=job.name, tags=environment_tags(settings), **narrowed)
