"""``db`` begins on empty tables, also after tests that have committed."""

from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.conftest import TABLES
from agg_pipeline_tests.sql.helpers import copied_database, fresh_database


@pytest.fixture
def db(_connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection on empty tables, whose work is rolled back after the test."""
    if _connection.execute(
        "select exists (select from core_asset_registry_all) or exists (select from ops_runlog)"
    ).fetchone() == (True,):
        _connection.execute(f"truncate {TABLES} cascade")
    with _connection.transaction(force_rollback=True):
        yield _connection


@pytest.fixture(scope="session")
def migrated(stack: Stack) -> Iterator[str]:
    """A database to which all migrations were applied, for reading and copying; nobody stays connected to it."""
    with fresh_database(stack.dsn, "all_migrations") as dsn:
        migrate(dsn)
        yield dsn


@pytest.fixture
def live(stack: Stack, migrated: str) -> Iterator[str]:
    """A database to which all migrations were applied, of the test's own."""
    with copied_database(stack.dsn, "live_copy", of="all_migrations") as dsn:
        yield dsn
