"""The project's definitions with a schedule to wait for, and no sensor that launches runs of its own."""

import os

import dagster as dg

from agg_pipeline.definitions import build_definitions

_built = build_definitions(cron_schedule=os.environ["AGG_BENCH_CRON"])
defs = dg.Definitions(
    assets=_built.assets,
    jobs=_built.jobs,
    schedules=_built.schedules,
    resources=_built.resources,
    executor=_built.executor,
)
