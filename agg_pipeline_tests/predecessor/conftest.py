"""One database with two weeks of the predecessor's work, of which every state is a copy."""

from collections.abc import Iterator

import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.predecessor.states import template


@pytest.fixture(scope="session")
def two_weeks(stack: Stack) -> Iterator[str]:
    """Name of the database; nobody may be connected to it when it is copied."""
    with template(stack.dsn) as name:
        yield name
