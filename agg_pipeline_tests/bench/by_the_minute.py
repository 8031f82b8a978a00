"""The project's definitions with a schedule to wait for, and no sensor that launches runs of its own."""

import os

import dagster as dg

from agg_pipeline.definitions import build_definitions


def _without_sensors(built: dg.Definitions) -> dg.Definitions:
    return dg.Definitions(
        assets=built.assets,
        jobs=built.jobs,
        schedules=built.schedules,
        resources=built.resources,
        executor=built.executor,
    )


# The only Definitions of the module, or Dagster refuses to choose.
defs = _without_sensors(build_definitions(cron_schedule=os.environ["AGG_BENCH_CRON"]))
