"""The embedded default stack on loopback: PostgreSQL and PostgREST with Supabase's roles, and Dagster's processes.

``start(folder)`` starts or attaches, ``running(folder)`` attaches only, ``stop(folder)`` stops; ``temporary()`` is
for tests.

Does not belong here: the schema of the database (supabase), and commands that an operator types (cli).
"""

from agg_pipeline.embedded.databases import create_database
from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.stack import Stack, running, start, stop, temporary

__all__ = ["EmbeddedError", "Stack", "create_database", "running", "start", "stop", "temporary"]
