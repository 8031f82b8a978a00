"""Backfills as Dagster runs them: one run for a range of days, the bars as the oracle has them."""

import datetime as dt
import threading
from typing import Any

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import rows, scalar, start

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
TIMEFRAMES = ["5m", "15m", "1h", "4h", "1d"]
SYMBOLS = ["AAA", "BBB"]


@pytest.fixture
def three_days(one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    """Two symbols with three days of bars, none of them built."""
    for symbol in SYMBOLS:
        one_gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select s, '1m', %s + m * interval '1 minute', 100 + m, 102 + m, 99 + m, 101 + m, 10, 1, 'test'
             from unnest(%s::text[]) s, generate_series(0, 3 * 1440 - 1) m""",
        [BEGIN, SYMBOLS],
    )
    return clean


def backfill(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    first: str,
    last: str,
    timeframes: list[str] = TIMEFRAMES,
    **config: object,
) -> dg.ExecuteInProcessResult:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        run_config={"ops": {"backfill_bars": {"config": config}}},
        asset_selection=[bars_key(timeframe) for timeframe in timeframes],
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
        instance=instance,
        raise_on_error=False,
    )


def materialized(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Figures by asset, of the last of its partitions."""
    made: dict[str, dict[str, Any]] = {}
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            one = event.step_materialization_data.materialization
            made[one.asset_key.path[-1]] = {k: v.value for k, v in one.metadata.items()}
    return made


def test_what_was_never_built_is_built_in_one_run(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    result = backfill(defs, instance, "2026-01-05", "2026-01-07")
    assert result.success
    counts = assert_equals_oracle(three_days)
    assert [counts["AAA", timeframe] for timeframe in TIMEFRAMES] == [864, 288, 72, 18, 3]
    made = materialized(result)
    assert list(made) == [f"bars_{timeframe}" for timeframe in TIMEFRAMES]
    assert {"bars_created": 1728, "bars_revised": 0, "symbols": 2}.items() <= made["bars_5m"].items()
    assert "| AAA | 1d | 3 | 0 | 0 | 0 | 0 |" in made["bars_1d"]["what was done"]
    (row,) = rows(three_days, "select run_id::text, job_name, status, stats from ops_runlog")
    assert (row["run_id"], row["job_name"], row["status"]) == (result.run_id, "agg-backfill", "success")
    assert instance.get_runs()[0].tags["agg/progress"] == "100 %"


def test_what_was_built_is_computed_again_only_in_the_range(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    """Damage that no trigger saw, on two days, of which one is backfilled."""
    backfill(defs, instance, "2026-01-05", "2026-01-07")
    three_days.execute("update derived_data_bars set close = close + 1 where timeframe in ('5m', '1h')")
    three_days.execute("truncate agg_dirty_ranges")
    result = backfill(defs, instance, "2026-01-06", "2026-01-06", symbols=["BBB"])
    assert result.success
    revised = three_days.execute(
        """select canonical_symbol, timeframe, count(*), min(ts_utc)::date::text, max(ts_utc)::date::text
             from derived_data_bars where revision > 1 and deleted_at is null group by 1, 2 order by 3 desc"""
    ).fetchall()
    assert revised == [("BBB", "5m", 288, "2026-01-06", "2026-01-06"), ("BBB", "1h", 24, "2026-01-06", "2026-01-06")]
    made = materialized(result)
    assert (made["bars_5m"]["bars_revised"], made["bars_15m"]["bars_unchanged"]) == (288, 96)


def test_a_part_of_the_ladder_brings_what_is_built_from_it_along(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    result = backfill(defs, instance, "2026-01-05", "2026-01-07", ["1h"])
    assert result.success
    assert list(materialized(result)) == ["bars_1h", "bars_5m"], "the days of the 5m bars that it needed count too"
    assert scalar(three_days, "select array_agg(distinct timeframe order by timeframe) from derived_data_bars") == [
        "1h", "5m"]  # fmt: skip


def test_a_dry_run_shows_the_plan_and_changes_nothing(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    backfill(defs, instance, "2026-01-05", "2026-01-07")
    three_days.execute("update derived_data_bars set close = close + 1 where timeframe = '1h'")
    before = rows(three_days, "select * from derived_data_bars order by id")
    result = backfill(defs, instance, "2026-01-05", "2026-01-07", dry_run=True)
    assert result.success
    assert materialized(result) == {}
    assert rows(three_days, "select * from derived_data_bars order by id") == before
    told = "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))
    assert "| AAA | 1h | 72 | 72 | 0 | 0 | 0 |" in told


def test_one_broken_symbol_makes_the_run_red_and_leaves_the_others_right(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    three_days.execute(
        "update data_bars set trade_count = 2000000000 where canonical_symbol = 'AAA' and ts_utc < %s",
        [BEGIN + dt.timedelta(minutes=5)],
    )
    result = backfill(defs, instance, "2026-01-05", "2026-01-07", symbols=["AAA", "BBB", "NOPE"])
    assert not result.success
    (failed,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    said = failed.step_failure_data.user_failure_data.description
    assert said.startswith("2 of 3 symbols failed: AAA: AAA/5m: 22003 ")
    assert "NOPE has no task of 5m, 15m, 1h, 4h, 1d" in said
    assert scalar(three_days, "select count(*) from derived_data_bars where canonical_symbol = 'BBB'") == 1245
    assert scalar(three_days, "select count(*) from data_agg_state where lease_owner is not null") == 0


@pytest.mark.nightly
def test_a_task_that_a_tick_has_at_work_is_waited_for(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection, stack: Stack
) -> None:
    start(three_days, "AAA", "5m", "10:00", owner="a tick")
    three_days.execute("update data_agg_state set lease_expires_at = now() + interval '1 h' where status = 'running'")

    def end_of_the_tick() -> None:
        with psycopg.connect(stack.dsn, autocommit=True) as own:
            own.execute("select agg_release('a tick')")

    tick = threading.Timer(2, end_of_the_tick)
    tick.start()
    assert backfill(defs, instance, "2026-01-05", "2026-01-07").success
    tick.join()
    assert assert_equals_oracle(three_days)["AAA", "1d"] == 3


def test_days_without_raw_bars_cost_no_events_and_build_nothing(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    """Nor do they build what lies after them, years later, and is not built yet."""
    result = backfill(defs, instance, "1996-01-01", "1996-01-20")
    assert result.success
    assert materialized(result) == {}
    assert scalar(three_days, "select count(*) from derived_data_bars") == 0
    told = "\n".join(entry.user_message for entry in instance.all_logs(result.run_id))
    assert "There are no 1d bars in these days, and none were built." in told


def test_any_day_with_raw_bars_can_be_picked(
    defs: dg.Definitions, instance: dg.DagsterInstance, one_gateway: AggGateway, clean: psycopg.Connection
) -> None:
    one_gateway.register_asset("OLD", start=dt.datetime(1995, 3, 1, tzinfo=dt.UTC), base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select 'OLD', '1m', '1995-03-01Z'::timestamptz + m * interval '1 minute', 100, 102, 99, 101, 10, 1, 'test'
             from generate_series(0, 1439) m"""
    )
    result = backfill(defs, instance, "1995-03-01", "1995-03-01")
    assert result.success
    assert list(materialized(result)) == [f"bars_{timeframe}" for timeframe in TIMEFRAMES]
    assert assert_equals_oracle(clean)["OLD", "1d"] == 1
