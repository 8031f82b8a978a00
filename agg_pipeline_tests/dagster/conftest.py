"""The definitions on the session's stack, and a Dagster instance of the test's own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import create_engine, text

from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack


@pytest.fixture
def settings_of_the_stack(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Environment variables that name the stack, for ENV_NAME prod."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "prod")
    return monkeypatch


@pytest.fixture
def defs(settings_of_the_stack: pytest.MonkeyPatch) -> dg.Definitions:
    return build_definitions()


@pytest.fixture(scope="session")
def _instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


@pytest.fixture
def instance(_instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """An instance in memory without runs; making one takes as long as a small run."""
    _instance.wipe()
    return _instance


@contextlib.contextmanager
def empty_storage(stack: Stack, home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster's storage in PostgreSQL, as it is in production, without the runs of earlier tests."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text(
        f"storage: {{postgres: {{postgres_url: '{stack.dagster_dsn}'}}}}\ntelemetry: {{enabled: false}}\n"
    )
    with dg.DagsterInstance.from_config(str(home)) as opened:
        opened.wipe()
        yield opened


@pytest.fixture
def stored_instance(stack: Stack, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with empty_storage(stack, tmp_path / "home") as instance:
        yield instance


def rewrite_run(stack: Stack, run_id: str, **columns: object) -> None:
    """Give a run of the stored instance another past: status, create_timestamp, start_time ..."""
    engine = create_engine(stack.dagster_dsn)
    with engine.begin() as storage:
        assignments = ", ".join(f"{name} = :{name}" for name in columns)
        storage.execute(text(f"update runs set {assignments} where run_id = :run_id"), columns | {"run_id": run_id})
    engine.dispose()
