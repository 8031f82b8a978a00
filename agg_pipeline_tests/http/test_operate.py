"""Commands pause and resume, and how status shows a pause."""

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import alter_task, at, put, register, settle, state


@pytest.fixture
def database(stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> psycopg.Connection:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    register(clean, "EURUSD")
    return clean


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_pause_holds_until_it_is_resumed(database: psycopg.Connection) -> None:
    assert (
        run("pause", "EURUSD", "5m", "--reason", "bad feed", "--by", "ann").stdout
        == "EURUSD is paused until resumed (tasks: 1).\n"
    )
    assert (state(database, "EURUSD", "5m")["pause_reason"], state(database, "EURUSD", "5m")["paused_by"]) == (
        "bad feed", "ann",
    )  # fmt: skip
    assert "paused" in run("status", "EURUSD").stdout
    alter_task(database, "EURUSD", "1h", status="disabled", hard_fail_streak=3)
    assert run("resume", "EURUSD").stdout == "EURUSD may run again (tasks: 5).\n"
    assert "paused" not in run("status", "EURUSD").stdout
    assert state(database, "EURUSD", "1h")["status"] == "idle"


def test_a_pause_that_is_over_is_not_shown(database: psycopg.Connection) -> None:
    assert (
        run("pause", "EURUSD", "--until", "2100-01-01").stdout
        == "EURUSD is paused until 2100-01-01 00:00 UTC (tasks: 5).\n"
    )
    database.execute("update data_agg_state set paused_until_utc = now()")
    assert "paused" not in run("status", "EURUSD").stdout


def test_an_invalid_pause_is_refused_in_one_line(database: psycopg.Connection) -> None:
    for arguments, said in (
        (["NOPE"], "there is no task NOPE"),
        (["EURUSD", "7m"], "unknown timeframe '7m'"),
        (["EURUSD", "--until", "2020-01-01"], "is over before it begins"),
        (["EURUSD", "--until", "soon"], "--until soon is not a time"),
    ):
        result = run("pause", *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
        assert said in result.stderr


def test_check_passes_on_right_bars_and_lists_wrong_ones(database: psycopg.Connection) -> None:
    put(database, "EURUSD", "00:00", 240)
    settle(database, "05:00")
    good = run("check", "--symbol", "EURUSD")
    assert (good.exit_code, "error" in good.stdout) == (0, False), good.output
    database.execute(
        "update derived_data_bars set high = high + 1 where timeframe = '1h' and ts_utc = %s", [at("02:00")]
    )
    database.execute("truncate agg_dirty_ranges")
    bad = run("check", "--symbol", "EURUSD")
    assert bad.exit_code == 1
    assert "error: EURUSD 1h 2026-01-05 02:00 UTC: high" in bad.stdout
    nowhere = run("check", "--symbol", "NOPE")
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (1, 1)
    assert "There are no tasks of NOPE. There are: EURUSD." in nowhere.stderr
