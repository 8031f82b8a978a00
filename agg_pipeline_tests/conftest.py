"""Real servers for the tests: one PostgreSQL and one PostgREST a session, every migration applied."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack, temporary

# Property tests: the same few examples each time in `make test`, many new ones in `make nightly`.
settings.register_profile("sample", max_examples=50, derandomize=True, database=None, deadline=None)
settings.register_profile(
    "nightly", max_examples=int(os.environ.get("AGG_EXAMPLES", "2000")), database=None, deadline=None, print_blob=True
)
settings.load_profile("sample")

TABLES = (
    "core_asset_registry_all, data_bars, derived_data_bars, data_agg_state, agg_dirty_ranges, ops_runlog, "
    "ops_issues, quality_workerhealth, agg_task_faults, agg_touched_days, ops_heartbeats"
)


# Tests that share servers or calendars, which take seconds to make: one worker runs all of a group in a row.
# Dagster's services come first, since their tests mostly wait.
TOGETHER = {
    "agg_pipeline_tests/dagster/services/": "services",
    "agg_pipeline_tests/faults/": "faults",
    "agg_pipeline_tests/predecessor/": "predecessor",
    "agg_pipeline_tests/security/": "security",
    "agg_pipeline_tests/pooler/": "pooler",
    "agg_pipeline_tests/sql/test_sessions": "calendars",
    "agg_pipeline_tests/sql/test_expected": "calendars",
    "agg_pipeline_tests/http/test_calendars": "calendars",
    "agg_pipeline_tests/http/test_max_rows": "max rows",
    "agg_pipeline_tests/dagster/test_calendars": "calendars",
}


class GroupsTogether(LoadScopeScheduling):
    """Sends the tests of each group of TOGETHER as one, every other test by itself, in the order collected.

    The mark xdist_group of pytest-xdist 3.8 has no effect with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((group for start, group in TOGETHER.items() if nodeid.startswith(start)), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupsTogether:
    return GroupsTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups first: a long one that begins last would be waited for."""
    last = len(TOGETHER)
    items.sort(key=lambda item: next((n for n, at in enumerate(TOGETHER) if item.nodeid.startswith(at)), last))


def pytest_collection_finish() -> None:
    """What was imported stays: no need to go through a million objects of it again and again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def no_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The .env of a developer's checkout may name a real project."""
    monkeypatch.setattr("agg_pipeline.settings.ENV_FILE", "no.env")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded stack, migrated. Shared: tests that commit clean up with ``clean``."""
    with temporary() as started:
        migrate(started.dsn)
        yield started


@pytest.fixture(scope="session")
def _connection(stack: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def db(_connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A connection whose work is rolled back after the test."""
    with _connection.transaction(force_rollback=True):
        yield _connection


@pytest.fixture
def clean(stack: Stack) -> Iterator[psycopg.Connection]:
    """A connection that commits, on tables emptied before the test: for what crosses connections."""
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        connection.execute(f"truncate {TABLES} restart identity cascade")
        yield connection


def skip_without_rest(stack: Stack) -> None:
    """PostgREST publishes no build for some machines; there the stack has a database only."""
    if stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")


@pytest.fixture(params=["rest", "postgres"])
def gateway(request: pytest.FixtureRequest, stack: Stack, clean: psycopg.Connection) -> Iterator[AggGateway]:
    """The gateway over each of its two transports, on empty tables."""
    if request.param == "rest":
        skip_without_rest(stack)
    opened = open_gateway(stack, direct=request.param == "postgres")
    yield opened
    opened.close()


@pytest.fixture
def one_gateway(stack: Stack, clean: psycopg.Connection) -> Iterator[AggGateway]:
    """The gateway over REST, or over a database URL where there is no PostgREST: for tests too long to run twice."""
    opened = open_gateway(stack, direct=stack.api_url is None)
    yield opened
    opened.close()


def open_gateway(stack: Stack, *, direct: bool) -> AggGateway:
    if direct:
        return AggGateway(open_transport(stack.dsn, ""))
    return AggGateway(open_transport(stack.api_url or "", stack.service_role_key, rest_path="/"))
