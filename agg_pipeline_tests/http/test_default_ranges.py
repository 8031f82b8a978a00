"""The range that a command reads by default is where the bars are, however long ago that is."""

import re
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from agg_pipeline.cli import app
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import drop, put, register, settle


@pytest.fixture
def loaded(
    stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> psycopg.Connection:
    """Three hours of bars on 2026-01-05, months before the clock, with a hole of eight minutes; nothing is built."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    monkeypatch.chdir(tmp_path)
    register(clean, "EURUSD")
    put(clean, "EURUSD", "09:00", 180)
    drop(clean, "EURUSD", "09:12", "09:20")
    return clean


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_gaps_of_a_loaded_history_are_those_of_its_last_week(loaded: psycopg.Connection) -> None:
    told = said("gaps", "EURUSD")
    assert "from 2025-12-29 12:00 to 2026-01-05 12:00 UTC" in told
    assert "2026-01-05 09:12 │ 2026-01-05 09:20 │ missing │ 8" in told
    assert "172 source bars found, 8 missing" in told
    assert "may still arrive" not in told
    assert "from 2026-01-05 09:15 to 2026-01-05 12:00 UTC" in said("gaps", "EURUSD", "--from", "2026-01-05T09:15")


def test_gaps_of_a_feed_that_has_just_fallen_silent_go_up_to_now(loaded: psycopg.Connection) -> None:
    loaded.execute("update data_bars set ts_utc = ts_utc + date_trunc('minute', now() - '2026-01-05T18:00Z')")
    told = said("gaps", "EURUSD", "5m")
    assert re.search(r"missing │ 34[456] │ [56] h", told), "six hours but the last 15 minutes, which may still come"
    assert "may still arrive" in told


def test_check_of_what_is_loaded_and_not_built_looks_at_the_raw_bars(loaded: psycopg.Connection) -> None:
    loaded.execute("update data_bars set high = 1 where ts_utc = '2026-01-05T10:00Z'")
    told = said("check", code=1)
    assert "EURUSD 1m 2026-01-05 10:00 UTC: high is 1.0, below open" in told
    assert "prices_sane │ 172 │ 0 │" in told


def test_check_and_verify_of_a_built_history_look_at_its_end(loaded: psycopg.Connection) -> None:
    settle(loaded, "12:30")
    assert re.search(r"matches_recomputation │ (4\d|5\d) ", said("check"))
    loaded.execute(
        "update derived_data_bars set high = high + 1 where timeframe = '1h' and ts_utc = '2026-01-05T11:00Z'"
    )
    loaded.execute(
        """insert into derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)
           values ('EURUSD', '1h', '2026-03-05T11:00Z', 1, 1, 1, 1)"""
    )
    told = said("verify", code=1)
    assert "EURUSD 1h 2026-01-05 11:00 high is 282, should be 281" in told
    assert "EURUSD 1h 2026-03-05 11:00 surplus" in told, "a bar that lies beyond what is built is of interest"
    assert "recomputed from 172 source bars" in told
    assert "2 differences" in told


def test_the_default_of_a_chart_has_bars_even_if_the_last_windows_have_none(loaded: psycopg.Connection) -> None:
    for hours in range(1, 40):  # one bar an hour: no 5m window has more than half of its source
        put(loaded, "EURUSD", f"2026-01-{6 + hours // 24:02}T{hours % 24:02}:00")
    settle(loaded, "2026-01-08T00:00")
    assert said("chart", "EURUSD", "5m") == "EURUSD-5m.html: 34 bars, 1 gaps."


@pytest.mark.parametrize(
    ("out", "told", "first"),
    [("it.html", "352 bars, 1 gaps.", "09:00"), ("it.svg", "the newest 300 of 352 bars, 0 gaps.", "10:00")],
)
def test_the_title_of_a_chart_is_the_range_of_the_bars_that_it_draws(
    loaded: psycopg.Connection, out: str, told: str, first: str
) -> None:
    put(loaded, "EURUSD", "12:00", 180)
    assert said("chart", "EURUSD", "1m", "--from", "2026-01-01", "--to", "2026-01-09", "--out", out) == f"{out}: {told}"
    assert f"EURUSD 1m, bars of 2026-01-05 {first} to 2026-01-05 14:59 UTC" in Path(out).read_text()
