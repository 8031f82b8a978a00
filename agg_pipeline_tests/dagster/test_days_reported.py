"""A day of a timeframe is marked as materialized when its bars changed, whichever run built them."""

import datetime as dt

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline_tests.dagster.test_backfill import backfill, three_days
from agg_pipeline_tests.dagster.test_job import run
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.ticking import tick

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
AFTER = "2026-01-08T00:01:00Z"


def green(instance: dg.DagsterInstance, timeframe: str) -> list[str]:
    return sorted(instance.get_materialized_partitions(bars_key(timeframe)))


@pytest.mark.usefixtures("three_days")
def test_a_tick_that_catches_up_reports_every_day(
    defs: dg.Definitions, instance: dg.DagsterInstance, clean: psycopg.Connection
) -> None:
    for _ in range(2):  # 1d after 4h
        assert run(defs, instance, now_utc=AFTER, max_tasks=100, max_windows=1000).success
    assert {timeframe: green(instance, timeframe) for timeframe in ("5m", "1h", "1d")} == {
        "5m": DAYS, "1h": DAYS, "1d": DAYS}  # fmt: skip
    assert_equals_oracle(clean)


@pytest.mark.usefixtures("three_days")
def test_days_that_a_killed_run_built_are_reported_by_the_next_one(
    defs: dg.Definitions, instance: dg.DagsterInstance, one_gateway: AggGateway, clean: psycopg.Connection
) -> None:
    """The calls of a tick that reports nothing, as one that is killed before its last step."""
    tick(one_gateway, dt.datetime(2026, 1, 7, 0, 1, tzinfo=dt.UTC), max_windows=1000)
    assert green(instance, "5m") == []
    clean.execute("delete from data_agg_state where timeframe <> '5m'")
    run(defs, instance, now_utc=AFTER, max_tasks=100, max_windows=1000, timeframes=["5m"])
    assert green(instance, "5m") == DAYS
    assert clean.execute("select count(*) from agg_touched_days").fetchone() == (0,)


@pytest.mark.usefixtures("three_days")
def test_a_backfill_of_one_day_reports_what_it_built_before_it(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    assert backfill(defs, instance, DAYS[2], DAYS[2], ["5m", "15m"]).success
    assert green(instance, "5m") == DAYS, "the cursor passes the days before"


__all__ = ["three_days"]
