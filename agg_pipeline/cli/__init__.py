"""The console script agg-pipeline: one file a command, named as it is typed.

Beside the commands: ``app`` (the application and how failures end), ``arguments`` (options that several commands take),
``target`` (which database a command talks to), ``tables``. Rules of the domain do not belong here.
"""

from agg_pipeline.cli import (  # noqa: F401  each adds its command to app
    backfill,
    calendar,
    calendars,
    chart,
    check,
    demo,
    doctor,
    down,
    explain,
    gaps,
    load,
    logs,
    migrate,
    migration,
    partition,
    pause,
    rebuild,
    repair,
    resume,
    status,
    sync,
    tick,
    up,
    verify,
)
from agg_pipeline.cli.app import app

__all__ = ["app"]
