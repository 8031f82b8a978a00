"""The console script agg-pipeline."""

from agg_pipeline.cli import (  # noqa: F401  each adds its commands to app
    backfilling,
    calendars,
    charting,
    checking,
    data,
    doctoring,
    explaining,
    gaps,
    logs,
    operate,
    partitioning,
    rebuilding,
    repairing,
    stack,
    status,
)
from agg_pipeline.cli.app import app

__all__ = ["app"]
