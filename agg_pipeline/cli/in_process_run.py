"""One run of the job in this process."""

import os
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Ran:
    """What a run said: a line per timeframe, and why it failed if it did."""

    success: bool
    lines: list[str]
    failure: str | None


def run_job(config: dict[str, object]) -> Ran:
    """Run agg_master once with this config of select_due (None values are left out).

    With DAGSTER_HOME set the run is kept there and shows in that instance's UI; else it leaves no trace but the bars.
    """
    # Not before: loading the definitions reads the environment, which the caller has just set.
    from agg_pipeline.definitions import build_definitions

    job = build_definitions().resolve_job_def("agg_master")
    run_config = {
        "ops": {"select_due": {"config": {name: value for name, value in config.items() if value is not None}}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    with dg.DagsterInstance.get() if os.environ.get("DAGSTER_HOME") else dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(run_config=run_config, instance=instance, raise_on_error=False)
    lines, failure = [], None
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            lines.append(event.step_materialization_data.materialization.description or "")
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            failure = data.user_failure_data.description if data.user_failure_data else str(data.error_display_string)
    return Ran(result.success, lines, failure)
