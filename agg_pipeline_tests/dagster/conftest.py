"""The definitions on the session's stack, and a Dagster instance of the test's own."""

from collections.abc import Iterator

import dagster as dg
import pytest

from agg_pipeline.definitions import build_definitions
from agg_pipeline.local import Stack


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


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened
