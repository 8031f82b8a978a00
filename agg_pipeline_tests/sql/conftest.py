"""``db`` begins on empty tables, also after tests that have committed."""

import psycopg
import pytest

from agg_pipeline_tests.conftest import TABLES


@pytest.fixture
def db(db: psycopg.Connection) -> psycopg.Connection:
    """A connection on empty tables, whose work is rolled back after the test."""
    if db.execute(
        "select exists (select from core_asset_registry_all) or exists (select from ops_runlog)"
    ).fetchone() == (True,):
        db.execute(f"truncate {TABLES} cascade")
    return db
