"""The project's definitions with a schedule that a benchmark can wait for."""

import os

from agg_pipeline.definitions import build_definitions

defs = build_definitions(cron_schedule=os.environ["AGG_BENCH_CRON"])
