"""A database with an hour and a half of bars, behind a PgBouncer whose pool is one session."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.pooler.pgbouncer import leaves_nothing, pgbouncer
from agg_pipeline_tests.sql.helpers import drop, fresh_database, put, register, settle


@dataclass(frozen=True)
class Pooled:
    """A database: its URL through the pooler, and the direct one."""

    url: str = field(repr=False)
    direct: str = field(repr=False)


def run(*arguments: str) -> Result:
    """A command, with the variables that the test has set."""
    return CliRunner().invoke(app, list(arguments), terminal_width=200)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the variables only those that a test sets."""
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_DB_URL", "DAGSTER_HOME", "PGOPTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENV_NAME", "PROD")


@pytest.fixture
def empty(stack: Stack) -> Iterator[Pooled]:
    """A new project."""
    with fresh_database(stack.dsn, "pooled_empty") as direct, pgbouncer(direct) as url:
        yield Pooled(url, direct)


@pytest.fixture(scope="module")
def pooled(stack: Stack) -> Iterator[Pooled]:
    """A project that `agg-pipeline migrate` has brought here through the pooler, with bars and a hole."""
    with fresh_database(stack.dsn, "pooled") as direct, pgbouncer(direct) as url:
        with leaves_nothing(url):
            done = run("migrate", "--database-url", url)
            assert done.exit_code == 0, done.output
        with psycopg.connect(direct, autocommit=True) as db:
            register(db, "EURUSD")
            put(db, "EURUSD", "09:00", 90)
            drop(db, "EURUSD", "09:12", "09:20")
            settle(db, "10:31")
        yield Pooled(url, direct)
