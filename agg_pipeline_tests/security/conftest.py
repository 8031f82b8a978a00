"""The REST API of the session's stack, and a second stack whose grants tests may open."""

from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack, temporary
from agg_pipeline_tests.security.surface import Surface


@pytest.fixture
def api(stack: Stack) -> str:
    return _required(stack)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Stack]:
    """A migrated stack of its own, without row level security: without a policy that alone would refuse inserts."""
    with temporary() as started:
        _required(started)
        migrate(started.dsn)
        with psycopg.connect(started.dsn) as db:
            for relation in Surface.read(started.dsn).relations:
                if relation.updatable:
                    db.execute(f'alter table public."{relation.name}" disable row level security')
        yield started


@pytest.fixture
def scratch_db(scratch: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(scratch.dsn, autocommit=True) as connection:
        yield connection


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _required(stack: Stack) -> str:
    if stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
    return stack.api_url
