"""The job: one graph that reads like the road of the data."""

import dagster as dg

from agg_pipeline.ops import SelectConfig, aggregate, close_run, finish, select_due
from agg_pipeline.settings import Environment, Settings

TICK_TAG = "agg/tick"
"""Run tag that dagster.yaml limits to one run per value, the environment."""


@dg.graph
def aggregate_due_bars() -> None:
    """Build every bar that is due: select, fan out, aggregate, finish, close."""
    due = select_due()
    close_run(due.map(lambda unit: finish(unit, aggregate(unit))).collect())


def build_job(settings: Settings, resources: dict[str, object]) -> dg.JobDefinition:
    """Job agg_master for one environment. Everything in its run config is optional."""
    in_process = settings.agg_executor == "in_process"
    return aggregate_due_bars.to_job(
        name="agg_master",
        description=(
            "Builds the bars that are due, at most MAX_TASKS_PER_RUN tasks with MAX_WINDOWS_PER_TASK windows each.\n\n"
            "Do not use re-execution from failure: Dagster may drop steps of a fan-out. Nothing is lost if you do: "
            "tasks live in the database. Simply launch the job again."
        ),
        tags={
            TICK_TAG: environment_tag(settings.env_name),
            "dagster/max_runtime": str(settings.running_stale_seconds - 30),
        },
        resource_defs=resources | ({"io_manager": dg.mem_io_manager} if in_process else {}),
        # What the Launchpad starts with; a run without config takes the same from the settings.
        config=dg.RunConfig(
            ops={
                "select_due": SelectConfig(
                    symbols=[],
                    timeframes=[],
                    max_tasks=settings.max_tasks_per_run,
                    max_windows=settings.max_windows_per_task,
                )
            }
        ),
        executor_def=dg.in_process_executor if in_process else dg.multiprocess_executor,
    )


def environment_tag(environment: Environment) -> str:
    return environment.value.lower()
