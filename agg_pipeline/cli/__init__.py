"""The console script agg-pipeline."""

from agg_pipeline.cli import (  # noqa: F401  each adds its commands to app
    backfilling,
    calendars,
    checking,
    data,
    doctoring,
    gaps,
    operate,
    partitioning,
    rebuilding,
    repairing,
    stack,
)
from agg_pipeline.cli.app import app

__all__ = ["app"]
