"""The predecessor, unmodified: its calls, in its order and with its arguments, give right bars on our database."""

import datetime as dt
import uuid
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from agg_pipeline_tests.sql.helpers import MINUTES, alter_task, at, live, put, register, rows, scalar, state, times


class Worker:
    """A cron worker that calls functions one after the other and trusts what they say."""

    def __init__(self, db: psycopg.Connection) -> None:
        self.db = db
        self.log: list[str] = []

    def rpc(self, function: str, **arguments: object) -> Any:
        named = ", ".join(f"{name} => %({name})s" for name in arguments)
        return scalar(self.db, f"select public.{function}({named})", arguments)

    def run(self, now: dt.datetime, *, limit: int | None = 20) -> None:
        run_id = uuid.uuid4()
        self.rpc("ops_runlog_start", p_run_id=run_id, p_job_name="agg-master", p_trigger="cron", p_env_name="DEV")
        self.rpc("ops_runlog_checkpoint", p_run_id=run_id, p_checkpoint="cron_start", p_details=Jsonb({"ts": str(now)}))
        due = rows(
            self.db,
            "select * from agg_get_due_tasks(p_env_name => %s, p_now_utc => %s, p_limit => %s, "
            "p_running_stale_seconds => %s)",
            ["DEV", now, limit, 900],
        )
        self.rpc(
            "ops_runlog_checkpoint",
            p_run_id=run_id,
            p_checkpoint="selected_due_tasks",
            p_details=Jsonb({"task_count": len(due)}),
        )
        for task in due:
            self.one(task["canonical_symbol"], task["timeframe"], now)
        self.rpc("ops_runlog_prune", p_job_name="agg-master", p_trigger="cron", p_keep=10)
        self.rpc("ops_runlog_finish", p_run_id=run_id, p_status="success", p_stats=Jsonb({"tasks": len(due)}))

    def one(self, symbol: str, timeframe: str, now: dt.datetime) -> None:
        lease = self.rpc("agg_start", p_symbol=symbol, p_tf=timeframe, p_now_utc=now)
        if not lease["success"]:
            return
        cursor = lease["last_agg_bar_ts_utc"] or self.rpc(
            "agg_bootstrap_cursor", p_symbol=symbol, p_to_tf=timeframe, p_now_utc=now
        )
        finish = {"p_symbol": symbol, "p_tf": timeframe, "p_now_utc": now, "p_auto_disable_hard_fail_threshold": 3}
        try:
            with self.db.transaction():
                result = self.rpc(
                    "catchup_aggregation_range", p_symbol=symbol, p_to_tf=timeframe, p_start_cursor_utc=cursor,
                    p_max_windows=100,
                    p_now_utc=now, p_derivation_version=1, p_ignore_confirmation=False,
                )  # fmt: skip
        except psycopg.DatabaseError as broken:
            self.log.append(str(broken).splitlines()[0])
            self.rpc(
                "agg_finish",
                p_success=False,
                p_fail_kind="hard",
                p_error=str(broken),
                p_stats=Jsonb({"error": str(broken)}),
                **finish,
            )
            return
        stats = {key: result[key] for key in ("windows_processed", "bars_created", "bars_quality_poor", "bars_skipped")}
        assert result["cursor_advanced_to"] is not None, "it would store null"
        self.rpc(
            "agg_finish", p_success=True, p_new_cursor_utc=result["cursor_advanced_to"], p_stats=Jsonb(stats), **finish
        )


@pytest.fixture
def worker(db: psycopg.Connection) -> Worker:
    register(db, "EURUSD")
    register(db, "DAX", base="5m")
    return Worker(db)


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
