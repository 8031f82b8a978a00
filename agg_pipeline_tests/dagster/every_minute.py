"""The project's definitions with a schedule that a test can wait for."""

from agg_pipeline.definitions import build_definitions
from agg_pipeline_tests.dagster.forked_runs import fork_runs

fork_runs()
defs = build_definitions(cron_schedule="* * * * *")
