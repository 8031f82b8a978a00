"""Many tasks in one call: one independent result each, in the order of the input."""

import concurrent.futures
import random

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import (
    at,
    batch,
    catch_up,
    clock,
    cursor,
    dirty,
    live,
    put,
    refused,
    register,
    settle,
    start,
    task,
    times,
)


@pytest.fixture
def eurusd(db: psycopg.Connection) -> psycopg.Connection:
    register(db, "EURUSD")
    put(db, "EURUSD", "10:00", 10)
    return db


def test_a_batch_returns_results_in_the_order_of_its_input(db: psycopg.Connection) -> None:
    symbols = [f"S{n}" for n in range(8)]
    register(db, *symbols)
    for symbol in symbols:
        put(db, symbol, "10:00", 60)
    asked = [task(symbol, timeframe) for symbol in symbols for timeframe in ("1h", "5m", "15m")]
    random.Random(1).shuffle(asked)
    leases = batch(db, "agg_start_batch", asked, p_now_utc=at("11:00"), p_owner="run 1")
    results = batch(db, "catchup_aggregation_batch", leases, p_now_utc=at("11:00"))
    done = batch(db, "agg_finish_batch", [{**lease, "success": True} for lease in leases], p_now_utc=at("11:00"))
    for answer in (leases, results, done):
        assert [task(row["canonical_symbol"], row["timeframe"]) for row in answer] == asked
    assert {row["timeframe"]: row["bars_created"] for row in results} == {"5m": 12, "15m": 4, "1h": 1}, "children first"


@pytest.mark.parametrize("function", ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"])
def test_a_task_named_twice_is_refused_at_its_second_mention(eurusd: psycopg.Connection, function: str) -> None:
    if function == "agg_finish_batch":
        start(eurusd, "EURUSD", "5m", "10:10")
    asked = [
        task("EURUSD", "5m", success=True),
        task("GBPUSD", "5m"),
        task("EURUSD", "5m", success=False),
        task("EURUSD", None),
    ]  # type: ignore[arg-type]
    first, unknown, second, nameless = batch(eurusd, function, asked, p_now_utc=at("10:10"))
    assert first["success"]
    assert "error" in unknown
    assert second["error"]["sqlstate"] == nameless["error"]["sqlstate"] == "AG003"
    assert "EURUSD/5m is named twice" in second["error"]["message"]


@pytest.mark.parametrize("function", ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"])
@pytest.mark.parametrize("tasks", [None, {}, "EURUSD"])
def test_what_is_not_a_list_is_refused(db: psycopg.Connection, function: str, tasks: object) -> None:
    with refused(db, "AG003", "a list of tasks is needed", "JSON array"):
        batch(db, function, tasks)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"])
def test_an_empty_list_gives_an_empty_list(db: psycopg.Connection, function: str) -> None:
    assert batch(db, function, []) == []


def test_a_refused_task_does_not_stop_the_others(db: psycopg.Connection) -> None:
    register(db, "A", "B", "C")
    for symbol in "ABC":
        put(db, symbol, "10:00", 5)
    leases = batch(
        db, "agg_start_batch", [task(symbol, "5m") for symbol in "ABC"], p_now_utc=at("10:05"), p_owner="run 1"
    )
    leases[1]["lease_token"] += 1
    leases.append(task("D", "5m"))
    results = batch(db, "catchup_aggregation_batch", leases, p_now_utc=at("10:05"))
    assert [row.get("bars_created") for row in results] == [1, None, 1, None]
    assert [row.get("error", {}).get("sqlstate") for row in results] == [None, "AG001", None, "AG002"]
    done = batch(db, "agg_finish_batch", [{**lease, "success": True} for lease in leases], p_now_utc=at("10:05"))
    assert [row.get("error", {}).get("sqlstate") for row in done] == [None, "AG001", None, "AG002"]


def test_a_task_that_breaks_is_reported_alone_and_raised_by_the_single_form(db: psycopg.Connection) -> None:
    """The trade counts of one symbol do not fit into an integer when they are added up."""
    register(db, "A", "B", "C")
    for symbol in "ABC":
        put(db, symbol, "10:00", 15, trade_count=2**31 - 1 if symbol == "B" else 1)
    asked = [task(symbol, timeframe) for symbol in "ABC" for timeframe in ("5m", "15m")]
    results = batch(db, "catchup_aggregation_batch", asked, p_now_utc=at("10:15"))
    errors = [row.get("error") for row in results]
    assert [error and error["sqlstate"] for error in errors] == [None, None, "22003", None, None, None]
    assert errors[2]["message"] == "catch-up of B/5m failed: integer out of range"
    assert [row.get("bars_created") for row in results] == [3, 1, None, 0, 3, 1]
    assert (cursor(db, "A", "5m"), cursor(db, "B", "5m")) == ("10:15", None)
    with refused(db, "22003", "catch-up of B/5m failed: integer out of range"):
        catch_up(db, "B", "5m", "10:15")
    put(db, "B", "10:00", 15)
    settle(db, "10:15")
    assert times(db, "B", "15m") == ["10:00"], "it heals with its data"


def test_a_failed_task_keeps_its_invalidated_windows(db: psycopg.Connection) -> None:
    register(db, "A")
    put(db, "A", "10:00", 5)
    settle(db, "10:05")
    put(db, "A", "10:00", 5, trade_count=2**31 - 1)
    noted = dirty(db, "A", "5m")
    (result,) = batch(db, "catchup_aggregation_batch", [task("A", "5m")], p_now_utc=at("10:05"))
    assert (result["error"]["sqlstate"], dirty(db, "A", "5m")) == ("22003", noted)
    assert noted == [("10:00", "10:05")]


def test_two_batches_in_opposite_order_do_not_wait_for_each_other(stack: Stack, clean: psycopg.Connection) -> None:
    symbols = [f"S{n:02d}" for n in range(30)]
    register(clean, *symbols)
    for symbol in symbols:
        put(clean, symbol, "10:00", 5)
    tasks = [task(symbol, "5m") for symbol in symbols]

    def one(asked: list[dict]) -> int:
        with psycopg.connect(stack.dsn, autocommit=True) as own:
            return sum(
                row["bars_created"]
                for _ in range(5)
                for row in batch(own, "catchup_aggregation_batch", asked, p_now_utc=at("10:05"))
            )

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(one, [tasks, tasks[::-1]] * 2)) == 30


def test_times_in_answers_are_utc_in_every_session_time_zone(eurusd: psycopg.Connection) -> None:
    """Timestamps inside jsonb follow the session."""
    eurusd.execute("set local timezone = 'Asia/Tokyo'")
    lease = start(eurusd, "EURUSD", "5m", "10:10", owner="run 1")
    result = catch_up(eurusd, "EURUSD", "5m", "10:10", token=1)
    assert lease["lease_expires_at"] == "2026-01-05T10:25:00+00:00"
    assert result["cursor_advanced_to"] == "2026-01-05T10:10:00+00:00"
    assert live(eurusd, "EURUSD", "5m")[0]["raw"]["from"] == "2026-01-05T10:00:00+00:00"
    assert clock(result["lease_expires_at"]) == "10:25"
