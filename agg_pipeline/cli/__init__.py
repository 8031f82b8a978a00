"""The console script agg-pipeline: one file per command, named as it is typed.

Besides: ``app`` (the application and its error handling), ``arguments`` (arguments of several commands), ``target``
(which database a command uses), ``tables``, ``load_report``, ``stop_signals``, ``instance_lock``. Rules of the domain
do not belong here.
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
