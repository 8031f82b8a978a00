"""A loaded history of one symbol, built by Dagster's own processes, from the first tick to the last bar."""

import statistics
import time
from pathlib import Path

import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.dagster_services import dagster_services
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MINUTE, MONDAY, served_market
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.dagster.conftest import empty_storage

MINUTES = 29_000
WINDOWS = {"5m": 5_800, "15m": 1_933, "1h": 483, "4h": 120, "1d": 20}
ROUNDS = 3
FIRST_RUNS = 6
HUNDRED_A_RUN = {"MAX_WINDOWS_PER_TASK": "100", "MAX_WINDOWS_PER_RUN": "1"}


@pytest.mark.bench
def test_a_loaded_history_is_built_in_big_steps(stack: Stack, tmp_path: Path, report: Report) -> None:
    """One tick is launched, as the schedule would; the sensor catch_up launches the others.

    The baseline is the pace of the first runs with 100 windows each, extrapolated: all of them take twenty minutes.
    """
    seconds = [_until_built(stack, tmp_path / f"round{n}", {}, WINDOWS) for n in range(ROUNDS)]
    few = {"5m": 100 * FIRST_RUNS}
    hundred = _until_built(stack, tmp_path / "hundred", HUNDRED_A_RUN, few) / few["5m"] * WINDOWS["5m"]
    report("loaded_history", statistics.median(seconds), "s", baseline=hundred)


def _until_built(stack: Stack, root: Path, environment: dict[str, str], wanted: dict[str, int]) -> float:
    """Seconds from the launch of the first tick until so many windows of each timeframe are built."""
    with (
        served_market(stack, 1) as market,
        empty_storage(stack, root / "empty"),
        dagster_services(root, stack.environment() | {"ENV_NAME": "prod"} | environment) as services,
    ):
        client = DagsterClient(services.url, services)
        client.stop_schedule("agg_every_5_minutes")
        market.load(MONDAY + MINUTES * MINUTE)
        began = time.perf_counter()
        client.launch_when_possible()
        client.wait(lambda: all(market.bars(timeframe) >= count for timeframe, count in wanted.items()), "it is built")
        return time.perf_counter() - began
