"""The stack that receives the faults, a world on it for each test, and the table of outcomes."""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.transport import retries
from agg_pipeline.embedded import Stack, started
from agg_pipeline_tests.faults.proxy import Proxy
from agg_pipeline_tests.faults.table import PLANTS, Row, page, table
from agg_pipeline_tests.faults.world import World

FAULTS = int(os.environ.get("AGG_FAULTS", "1"))
"""How thorough: repetitions of what depends on chance. Above 1 the tries of a call and the pauses are real as well."""
TRIES = 2 if FAULTS == 1 else 4

TABLE = pytest.StashKey[list[Row]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Print the table, and write it where AGG_FAULT_TABLE says if all went well."""
    if not (found := config.stash.get(TABLE, [])):
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(table(found))
    if (path := os.environ.get("AGG_FAULT_TABLE")) and exitstatus == 0:
        today = dt.datetime.now(dt.UTC).date()
        text = page(found, config.stash.get(PLANTS, {}), today=today, pauses=FAULTS > 1)
        Path(path).write_text(text, encoding="utf-8")


def retry_without_pauses(monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
    """Limit the attempts of each call, one right after the other."""
    monkeypatch.setattr(retries, "ATTEMPTS", attempts)
    for wait in ("FIRST_WAIT_S", "RETRY_AFTER_MAX_S", "JITTER_S"):
        monkeypatch.setattr(retries, wait, 0.0)


@pytest.fixture(scope="session")
def fault_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Durable, as a user's is: what was committed must be there after a kill."""
    with started(tmp_path_factory.mktemp("faults") / "stack") as stack:
        if stack.api_url is None:
            pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
        migrate(stack.dsn)
        yield stack


@pytest.fixture(scope="session")
def _instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture(scope="session")
def _proxy(fault_stack: Stack) -> Iterator[Proxy]:
    port = urlsplit(fault_stack.api_url or "").port
    assert port
    with Proxy(port) as proxy:
        yield proxy


@pytest.fixture
def world(
    fault_stack: Stack,
    _proxy: Proxy,
    _instance: dg.DagsterInstance,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """Twenty tasks with three hours built, the fourth to sixth arrived, and all of it due."""
    for name, value in {"ENV_NAME": "prod", "TASKS_PER_STEP": "5"}.items():
        monkeypatch.setenv(name, value)
    rows = request.config.stash.setdefault(TABLE, [])
    world = World(fault_stack, _proxy, _instance, rows, TRIES)
    world.begin()
    world.news()
    _proxy.calls.clear()
    if FAULTS == 1:
        retry_without_pauses(monkeypatch, TRIES)
    return world


@pytest.fixture(scope="session")
def undisturbed(fault_stack: Stack, _proxy: Proxy, _instance: dg.DagsterInstance) -> dict[str, list[dict[str, object]]]:
    """The world after one run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in {"ENV_NAME": "prod", "TASKS_PER_STEP": "5"}.items():
            monkeypatch.setenv(name, value)
        twin = World(fault_stack, _proxy, _instance, [], TRIES)
        twin.begin()
        twin.news()
        assert twin.tick().success
        return twin.snapshot()
