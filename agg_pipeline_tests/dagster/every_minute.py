"""The project's definitions with a schedule that a test can wait for."""

from agg_pipeline.definitions import build_definitions

defs = build_definitions(cron_schedule="* * * * *")
