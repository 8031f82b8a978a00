"""The embedded default stack: real PostgreSQL and real PostgREST with Supabase's roles, on loopback.

``start(folder)`` starts or attaches, ``running(folder)`` attaches only, ``stop(folder)`` stops; ``temporary()`` is
for tests.
"""

from agg_pipeline.local.errors import LocalStackError
from agg_pipeline.local.stack import Stack, running, start, stop, temporary

__all__ = ["LocalStackError", "Stack", "running", "start", "stop", "temporary"]
