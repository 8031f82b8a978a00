"""What Dagster loads: the definitions of one environment (ENV_NAME), assembled here and decided elsewhere."""

import dagster as dg

from agg_pipeline.orchestration.assets import bar_assets, bar_checks
from agg_pipeline.orchestration.jobs import build_calendar_job, build_job, build_retention_job
from agg_pipeline.orchestration.resources import resources_for
from agg_pipeline.orchestration.schedules import (
    EVERY_5_MINUTES,
    build_calendar_schedule,
    build_retention_schedule,
    build_schedule,
)
from agg_pipeline.orchestration.sensors.alerts import build_alert_sensor
from agg_pipeline.orchestration.sensors.catch_up import build_catch_up_sensor
from agg_pipeline.orchestration.sensors.release import build_release_sensor
from agg_pipeline.orchestration.sensors.rerun import build_rerun_sensor
from agg_pipeline.settings import load_settings


def build_definitions(*, cron_schedule: str = EVERY_5_MINUTES) -> dg.Definitions:
    """Definitions of the environment ENV_NAME. Raises SettingsError, which names each variable that is not valid."""
    settings = load_settings()
    resources = resources_for(settings.env_name)
    job, retention = build_job(settings, resources), build_retention_job(settings, resources)
    calendars = build_calendar_job(settings, resources)
    return dg.Definitions(
        assets=bar_assets(),
        asset_checks=[bar_checks()],
        jobs=[job, retention, calendars],
        schedules=[
            build_schedule(job, settings, cron_schedule=cron_schedule),
            build_retention_schedule(retention),
            build_calendar_schedule(calendars),
        ],
        sensors=[
            build_catch_up_sensor(job, settings),
            build_rerun_sensor(job, settings),
            build_release_sensor(settings),
            build_alert_sensor(settings),
        ],
        resources=resources,
        executor=dg.in_process_executor,  # default of jobs that name none (backfills): a process costs more than a step
    )


defs = build_definitions()
