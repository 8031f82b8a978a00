"""The project's definitions with a schedule that never comes: what runs is what a test or a sensor starts."""

from agg_pipeline.definitions import build_definitions
from agg_pipeline_tests.dagster.forked_runs import fork_runs

fork_runs()
defs = build_definitions(cron_schedule="0 0 29 2 *")
