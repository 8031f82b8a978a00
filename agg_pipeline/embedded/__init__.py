"""PostgreSQL, PostgREST and Dagster's processes on this machine, kept running by one process supervisor.

``started(folder)`` starts a database or attaches to it, ``running(folder)`` attaches only, ``stop(folder)`` stops;
``temporary()`` is for tests. ``supervised(folder)`` also gives the supervisor, for Dagster's processes
(``start_dagster`` in ``dagster_services``).

Does not belong here: the schema of the database (supabase), and commands that an operator types (cli).
"""

from agg_pipeline.embedded.databases import create_database
from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.stack import Stack, running, started, stop, supervised, temporary

__all__ = ["EmbeddedError", "Stack", "create_database", "running", "started", "stop", "supervised", "temporary"]
