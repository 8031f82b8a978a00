"""Dagster's own processes, shared by the tests of this package, which one worker runs in a row (ServicesTogether)."""

import dataclasses
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.dagster_services import dagster_services
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.dagster.conftest import empty_storage


@pytest.fixture(scope="package")  # not the session's: other tests empty the storage
def _client(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterClient]:
    """All of Dagster, for all tests that need it: starting it takes longer than most of them."""
    environment = stack.environment() | {"ENV_NAME": "prod", "TASKS_PER_STEP": "2"}
    root = tmp_path_factory.mktemp("dagster")
    with empty_storage(stack, root / "empty"):
        pass
    module = "agg_pipeline_tests.dagster.every_minute"
    with dagster_services(root, environment, module=module) as services:
        started = DagsterClient(services.url, services)
        yield dataclasses.replace(started, at_first=started.started())


@pytest.fixture
def client(_client: DagsterClient, clean: psycopg.Connection) -> DagsterClient:
    """All of Dagster on empty tables, the schedule stopped: what runs is what the test or a sensor starts.

    Runs of earlier tests have ended and are not shown, and the sensor catch_up, which looks at the newest run, has seen
    its end: else it could start a run on the tasks that the test is about to load.
    """
    _client.stop_schedule("agg_every_5_minutes")
    _client.wait(lambda: _client.has_ticked("catch_up"), "the runs of earlier tests end and catch_up has seen it")
    return dataclasses.replace(_client, forgotten=frozenset(run.run_id for run in _client.runs()))
