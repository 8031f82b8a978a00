"""The console script agg-pipeline."""

from agg_pipeline.cli import backfilling, calendars, checking, data, gaps, operate, repair, stack  # noqa: F401  each adds its commands to app
from agg_pipeline.cli.app import app

__all__ = ["app"]
