"""What sensors and UI do about runs that fail, hang or die, with Dagster's real daemon, webserver and code server."""

import datetime as dt
import os
import re
import signal
import time
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.market.timeframes import Timeframe, window_start
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import rows, scalar, state

# Four hours that make one 4h bar, and ended long enough ago for every deadline.
BEGIN = window_start(dt.datetime.now(dt.UTC) - dt.timedelta(hours=7), Timeframe.H4)
POISON = "update data_bars set trade_count = 2000000000 where canonical_symbol = 'POISON' and ts_utc < %s"
SYMBOLS = ["AAA", "BBB", "POISON"]


@pytest.fixture
def bars(client: DagsterClient, one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    """Four hours of bars of three symbols."""
    for symbol in SYMBOLS:
        one_gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select s, '1m', %s + m * interval '1 minute', m, m + 2, m - 1, m + 1, 10, 1, 'test'
             from unnest(%s::text[]) s, generate_series(0, 239) m""",
        [BEGIN, SYMBOLS],
    )
    return clean


def no_more_back_off(db: psycopg.Connection) -> None:
    """What a minute or two of waiting would do."""
    db.execute("update data_agg_state set next_run_at = now() where hard_fail_streak + transient_streak > 0")


def diary(db: psycopg.Connection, run_id: str) -> dict:
    (row,) = rows(db, "select status, stats, checkpoints from ops_runlog where run_id = %s", [run_id])
    return row


def test_everything_that_should_run_by_itself_does(client: DagsterClient) -> None:
    schedules = ["agg_every_5_minutes", "calendars_daily", "retention_daily"]
    sensors = ["catch_up", "release_leases", "rerun_failed_tasks"]
    assert client.at_first == dict.fromkeys([*schedules, *sensors], "RUNNING") | {"alerts": "STOPPED"}


@pytest.mark.nightly
def test_a_failed_task_is_named_rerun_alone_and_given_up_in_time(
    client: DagsterClient, bars: psycopg.Connection
) -> None:
    """And the backlog of the others goes on meanwhile: a failed run is followed like any other."""
    bars.execute(POISON, [BEGIN + dt.timedelta(minutes=5)])
    first = client.launch(config={"max_windows": 30})
    run = client.wait_for_end(first)
    assert run.status == "FAILURE"
    (failure,) = [e for e in client.events(first) if e["__typename"] == "ExecutionStepFailureEvent"]
    assert failure["failureMetadata"]["description"].startswith("1 of 12 tasks failed: POISON/5m (hard): 22003 ")
    assert "failed_tasks" in [entry["label"] for entry in failure["failureMetadata"]["metadataEntries"]]

    others = "select count(*) = 2 from derived_data_bars where timeframe = '4h'"
    client.wait(lambda: scalar(bars, others), "the others have caught up")
    # The tick that went on with the backlog may have tried it once more; whichever run failed last is rerun.
    assert client.runs(attempt="2") == [], "it backs off first"
    (second,) = client.wait(lambda: no_more_back_off(bars) or client.runs(attempt="2"), "attempt 2")
    root = second.tags["agg/root"]
    assert second.tags["agg/rerun_of"] == root
    assert client.wait_for_end(second.run_id).status == "FAILURE"
    (third,) = client.wait(lambda: no_more_back_off(bars) or client.runs(root=root, attempt="3"), "attempt 3")
    assert third.tags["agg/rerun_of"] == second.run_id
    assert client.wait_for_end(third.run_id).status == "FAILURE"
    for rerun in (second, third):
        assert {"POISON/5m"} == diary(bars, rerun.run_id)["checkpoints"].keys() - {"cron_start", "selected_due_tasks"}
    no_more_back_off(bars)
    task = state(bars, "POISON", "5m")
    assert task["status"] == "hard_failed", "mandatory, so it is tried again for ever"
    assert task["hard_fail_streak"] >= 3
    assert scalar(bars, "select array_agg(distinct code) from ops_issues") == ["AGG_HARD_FAIL"]

    bars.execute("update data_bars set trade_count = 1")
    no_more_back_off(bars)
    healed = client.launch(config={"max_windows": 1000})
    assert client.wait_for_end(healed).status == "SUCCESS"
    assert client.runs(rerun_of=third.run_id) == [], "while it still failed, the sensor had time to look"
    assert assert_equals_oracle(bars)["POISON", "4h"] == 1


@pytest.fixture
def lock(stack: Stack, bars: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """A table that somebody has locked: a catch-up waits for it, again and again, holding its lease."""
    with psycopg.connect(stack.dsn) as somebody:
        somebody.execute("lock table derived_data_bars in exclusive mode")
        yield somebody


@pytest.fixture
def a_run_in_the_middle(client: DagsterClient, bars: psycopg.Connection, lock: psycopg.Connection) -> str:
    """A run that holds a lease, at work on it: the one launched here, or one of the schedule that came before it."""
    client.launch()
    held = "select lease_owner from data_agg_state where status = 'running'"
    ((run_id,), *_) = client.wait(lambda: bars.execute(held).fetchall(), "a lease")
    return str(run_id)


def kill_process_of(client: DagsterClient, run_id: str) -> None:
    messages = [event.get("message") or "" for event in client.events(run_id)]
    (pid,) = {int(pid) for message in messages for pid in re.findall(r"in process \(pid: (\d+)\)", message)}
    os.kill(pid, signal.SIGKILL)


def free_within_s(client: DagsterClient, db: psycopg.Connection) -> float:
    began = time.monotonic()
    leased = "select count(*) = 0 from data_agg_state where status = 'running' or lease_owner is not null"
    client.wait(lambda: scalar(db, leased), "all leases are free")
    return time.monotonic() - began


def test_who_terminates_a_run_frees_its_tasks_at_once(
    client: DagsterClient, bars: psycopg.Connection, a_run_in_the_middle: str
) -> None:
    client.terminate(a_run_in_the_middle)
    # The server is still waiting for the table, four seconds at most; the release waits for that.
    print(f"free after {free_within_s(client, bars):.1f} s")
    assert client.wait_for_end(a_run_in_the_middle).status == "CANCELED"
    assert (diary(bars, a_run_in_the_middle)["status"], diary(bars, a_run_in_the_middle)["stats"]) == (
        "failed", {"error": "terminated"},
    ), "the run did it itself; the sensor, which comes every ten seconds, would have left another word"  # fmt: skip
    assert scalar(bars, "select array_agg(status::text) from quality_workerhealth") == ["warning"]
    assert scalar(bars, "select sum(transient_streak + hard_fail_streak) from data_agg_state") == 0


@pytest.mark.nightly
def test_a_run_whose_process_is_killed_frees_its_tasks_by_sensor(
    client: DagsterClient, bars: psycopg.Connection, a_run_in_the_middle: str
) -> None:
    kill_process_of(client, a_run_in_the_middle)
    free_within_s(client, bars)
    assert client.wait_for_end(a_run_in_the_middle).status == "FAILURE"
    row = diary(bars, a_run_in_the_middle)
    assert (row["status"], row["stats"]) == ("failed", {"error": "the run ended as FAILURE without closing its row"})
    assert scalar(bars, "select array_agg(code) from ops_issues") == ["AGG_SCHEDULED_FAIL"]


@pytest.mark.nightly
def test_even_a_reexecution_from_failure_loses_no_task(
    client: DagsterClient, bars: psycopg.Connection, lock: psycopg.Connection, a_run_in_the_middle: str
) -> None:
    """Dagster drops steps of a fan-out then; but the tasks are in the database, and the next run takes them."""
    kill_process_of(client, a_run_in_the_middle)
    client.wait_for_end(a_run_in_the_middle)
    lock.rollback()
    again = client.reexecute_from_failure(a_run_in_the_middle)
    print("the re-execution from failure ended as", client.wait_for_end(again).status)
    free_within_s(client, bars)
    assert client.wait_for_end(client.launch(config={"max_windows": 1000})).status == "SUCCESS"
    assert sum(assert_equals_oracle(bars).values()) == 3 * (48 + 16 + 4 + 1)
