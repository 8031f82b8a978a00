"""The predecessor, unmodified: its calls, in its order and with its arguments, give right bars on our database."""

import datetime as dt

import psycopg
import pytest

from agg_pipeline_tests.predecessor.worker import Worker
from agg_pipeline_tests.sql.helpers import MINUTES, alter_task, at, live, put, register, rows, state, times


@pytest.fixture
def worker(db: psycopg.Connection) -> Worker:
    register(db, "EURUSD")
    register(db, "DAX", base="5m")
    return Worker(db)


@pytest.mark.nightly
def test_its_calls_build_every_level_as_the_data_comes(worker: Worker, db: psycopg.Connection) -> None:
    """Twelve hours, a tick every five minutes, bars that come two minutes late and a hole of an hour."""
    for n in range(0, 720 + 20, 5):
        now = at("00:06") + dt.timedelta(minutes=n)
        last = n - 5  # the newest five minutes are not to be had yet
        if 0 <= last < 720 and not 300 <= last < 360:
            put(db, "EURUSD", at("00:00") + dt.timedelta(minutes=last), 5)
            put(db, "DAX", at("00:00") + dt.timedelta(minutes=last), 1, "5m")
        worker.run(now)
    assert worker.log == []
    hours = [f"{hour:02d}:00" for hour in range(12) if hour != 5]
    for symbol in ("EURUSD", "DAX"):
        assert times(db, symbol, "1h") == hours
        assert {row["quality_score"] for timeframe in ("5m", "15m", "1h") for row in live(db, symbol, timeframe)} == {2}
        assert [row["source_candles"] for row in live(db, symbol, "4h")] == [4, 3, 4]
        assert len(times(db, symbol, "15m")) == 44
    assert len(times(db, "EURUSD", "5m")) == 132
    task = state(db, "EURUSD", "5m")
    assert (task["total_bars_created"], task["status"], task["hard_fail_streak"], task["last_error"]) == (
        132,
        "idle",
        0,
        None,
    )
    assert {row["status"] for row in rows(db, "select * from ops_runlog")} == {"success"}
    assert len(rows(db, "select * from ops_runlog")) == 10


def test_a_backlog_is_worked_off_by_its_hundred_windows_a_run(worker: Worker, db: psycopg.Connection) -> None:
    put(db, "EURUSD", "00:00", 1440)
    for n in range(8):
        worker.run(at("2026-01-06T00:01") + dt.timedelta(minutes=5 * n))
    assert [len(times(db, "EURUSD", timeframe)) for timeframe in ("5m", "15m", "1h", "4h", "1d")] == [288, 96, 24, 6, 1]


def test_a_failure_is_recorded_and_the_other_tasks_go_on(worker: Worker, db: psycopg.Connection) -> None:
    put(db, "EURUSD", "00:00", 15, trade_count=2**31 - 1)
    put(db, "DAX", "00:00", 3, "5m")
    worker.run(at("00:16"))
    assert worker.log == ["catch-up of EURUSD/5m failed: integer out of range"]
    assert (state(db, "EURUSD", "5m")["hard_fail_streak"], state(db, "EURUSD", "5m")["status"]) == (1, "idle")
    assert times(db, "DAX", "15m") == ["00:00"]


def test_it_cannot_revive_what_an_operator_disabled_under_its_hands(worker: Worker, db: psycopg.Connection) -> None:
    put(db, "EURUSD", "00:00", 10)
    worker.rpc("agg_start", p_symbol="EURUSD", p_tf="5m", p_now_utc=at("00:11"))
    alter_task(db, "EURUSD", "5m", status="disabled")
    with pytest.raises(psycopg.DatabaseError, match="EURUSD/5m is disabled"), db.transaction():
        worker.rpc(
            "agg_finish",
            p_symbol="EURUSD",
            p_tf="5m",
            p_success=True,
            p_new_cursor_utc=at("00:10"),
            p_stats=None,
            p_now_utc=at("00:11"),
            p_auto_disable_hard_fail_threshold=3,
        )
    assert state(db, "EURUSD", "5m")["status"] == "disabled"


def test_the_ladder_is_what_it_reads_of_a_task(worker: Worker, db: psycopg.Connection) -> None:
    lease = worker.rpc("agg_start", p_symbol="DAX", p_tf="4h", p_now_utc=at("00:00"))
    assert (lease["source_timeframe"], lease["run_interval_minutes"]) == ("1h", MINUTES["4h"])


def test_every_answer_has_the_keys_that_it_reads_and_those_that_it_had(worker: Worker, db: psycopg.Connection) -> None:
    put(db, "EURUSD", "00:00", 12)
    task = {"p_symbol": "EURUSD", "p_tf": "5m"}
    with db.cursor() as cursor:
        cursor.execute("select * from agg_get_due_tasks('DEV', %s, 20, 900)", [at("00:11")])
        assert [column.name for column in cursor.description or ()][:9] == [
            "canonical_symbol", "timeframe", "source_timeframe", "run_interval_minutes", "aggregation_delay_seconds",
            "last_agg_bar_ts_utc", "status", "hard_fail_streak", "task_priority",
        ]  # fmt: skip
    lease = worker.rpc("agg_start", **task, p_now_utc=at("00:11"))
    assert lease.keys() >= {
        "success", "canonical_symbol", "timeframe", "source_timeframe", "run_interval_minutes",
        "aggregation_delay_seconds", "last_agg_bar_ts_utc",
    }  # fmt: skip
    assert worker.rpc("agg_start", **task, p_now_utc=at("00:11")) == {"success": False, "error": "not_idle_or_missing"}
    first = worker.rpc("agg_bootstrap_cursor", p_symbol="EURUSD", p_to_tf="5m", p_now_utc=at("00:11"))
    assert first == at("00:00")
    done = worker.rpc(
        "catchup_aggregation_range", p_symbol="EURUSD", p_to_tf="5m", p_start_cursor_utc=first, p_now_utc=at("00:11")
    )
    assert done.keys() >= {
        "success", "windows_processed", "cursor_advanced_to", "bars_created", "bars_quality_poor", "bars_skipped",
        "continue", "agg_start_enforced",
    }  # fmt: skip
    assert (done["bars_created"], done["cursor_advanced_to"]) == (2, "2026-01-05T00:10:00+00:00")
    end = {**task, "p_now_utc": at("00:11")}
    assert worker.rpc("agg_finish", **end, p_success=True, p_new_cursor_utc=at("00:10")) == {"success": True}
    worker.rpc("agg_start", **end)
    transient = worker.rpc("agg_finish", **end, p_success=False, p_fail_kind="transient", p_error="timeout")
    assert transient == {"success": True, "failed": True, "kind": "transient"}
    worker.rpc("agg_start", **end)
    hard = worker.rpc("agg_finish", **end, p_success=False, p_fail_kind=None, p_error="x")
    assert hard.keys() == {"success", "failed", "kind", "status", "hard_fail_streak", "is_mandatory"}
    assert hard["kind"] == "hard", "whatever is not transient"
    assert worker.rpc("sync_agg_state_from_registry", p_env_name="prod").keys() >= {
        "success", "tasks_created", "tasks_updated", "tasks_disabled", "timestamp_utc", "env", "agg_start_utc",
    }  # fmt: skip
    run = {"p_run_id": "00000000-0000-0000-0000-000000000001"}
    started = worker.rpc("ops_runlog_start", **run, p_job_name="agg-master", p_trigger="cron", p_env_name="DEV")
    assert started["success"]
    assert worker.rpc("ops_runlog_checkpoint", **run, p_checkpoint="cron_start")["success"]
    assert worker.rpc("ops_runlog_finish", **run, p_status="success")["success"]
    assert worker.rpc("ops_runlog_prune", p_job_name="agg-master", p_trigger="cron").keys() >= {"success", "deleted"}


def test_what_a_wrong_setting_of_its_makes_of_a_call_does_no_harm(worker: Worker, db: psycopg.Connection) -> None:
    """A number that is none reaches the database as null: all tasks, no window, the usual lease."""
    put(db, "EURUSD", "00:00", 12)
    worker.run(at("00:11"), limit=None)
    assert times(db, "EURUSD", "5m") == ["00:00", "00:05"]
    put(db, "EURUSD", "00:12", 12)
    done = worker.rpc(
        "catchup_aggregation_range", p_symbol="EURUSD", p_to_tf="5m", p_start_cursor_utc=at("00:10"),
        p_max_windows=None, p_now_utc=at("00:30"),
    )  # fmt: skip
    assert (done["windows_processed"], done["cursor_advanced_to"]) == (0, "2026-01-05T00:10:00+00:00")
