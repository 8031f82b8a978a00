"""Commands that show the state: status, explain, chart, logs."""

import json
import uuid
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app, logs
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.sql.helpers import drop, put, register, settle


@pytest.fixture
def database(
    stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> psycopg.Connection:
    """An hour and a half of bars with a hole, a bar that is not valid, and a late one."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    monkeypatch.chdir(tmp_path)
    register(clean, "EURUSD")
    put(clean, "EURUSD", "09:00", 90)
    drop(clean, "EURUSD", "09:12", "09:20")
    put(clean, "EURUSD", "09:26", 1, high=1.0)
    drop(clean, "EURUSD", "09:31", "09:32")
    settle(clean, "10:31")
    put(clean, "EURUSD", "09:31", 1)
    settle(clean, "10:32")
    return clean


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), terminal_width=200)


def said(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
    return result.stderr


def test_status_counts_states_and_shows_reasons(database: psycopg.Connection) -> None:
    run("pause", "EURUSD", "1h", "--reason", "bad [feed]", "--by", "ann")
    table = said("status")
    assert "Tasks: 4 waiting for source, 1 paused" in table
    assert "[feed]" in table, "no markup"
    assert "its source 5m" in table
    told = {row["timeframe"]: row for row in json.loads(run("status", "--json").stdout)}
    assert list(told) == ["5m", "15m", "1h", "4h", "1d"]
    assert (told["1h"]["state"], told["1h"]["canonical_symbol"]) == ("paused", "EURUSD")
    assert said("status", "--trouble", "--json") != "[]"
    database.execute("update core_asset_registry_all set active = false, test_active = false")
    assert "5 disabled" in said("status", "EURUSD")
    assert "There are no tasks of NOPE. There are: EURUSD." in refused("status", "NOPE")
    database.execute("delete from data_agg_state")
    assert "There are no tasks yet" in said("status"), "a project is no failure before it has bars"
    assert said("status", "--json") == "[]"


def test_explain_shows_sources_and_revisions_of_a_window(database: psycopg.Connection) -> None:
    built = said("explain", "EURUSD", "5m", "2026-01-05T09:32")
    assert "EURUSD/5m from 2026-01-05 09:30 to 2026-01-05 09:35 UTC Built, quality 2; 5 of 5 expected 1m bars" in built
    assert "1 │ 1 │ 4 of 5" in built
    assert "2 │ 2 │ 5 of 5" in built
    assert "first build" in built
    assert "source bars" in built.split("Revisions")[1]
    rejected = said("explain", "EURUSD", "5m", "2026-01-05T09:25")
    assert "Built, quality 1; 4 of 5" in rejected
    assert "rejected: high below low" in rejected
    gone = said("explain", "EURUSD", "5m", "2026-01-05T09:15")
    assert "No bar: 0 of 5 expected 1m bars are there, and a bar needs more than half of them." in gone
    assert gone.count("missing") == 5
    assert "Not built yet: 1 of 12 expected" not in said("explain", "EURUSD", "1h", "2026-01-05T09:00")
    assert "Never built: the task starts at 2026-01-05 00:00" in said("explain", "EURUSD", "5m", "2026-01-04T09:00")
    assert "Not built yet: 0 of 5" in said("explain", "EURUSD", "5m", "2026-01-05T11:00")
    put(database, "EURUSD", "09:31", 1, close=101.0)
    assert "one of the next ticks rebuilds it" in said("explain", "EURUSD", "5m", "2026-01-05T09:30")
    put(database, "EURUSD", "11:00", 1)
    assert "rebuilds it" not in said("explain", "EURUSD", "5m", "2026-01-05T11:00"), "it was never built"
    assert "There is no 1m task of EURUSD. There are: EURUSD/5m, EURUSD/15m, " in refused(
        "explain", "EURUSD", "1m", "2026-01-05"
    )
    assert "WINDOW soon is not a time" in refused("explain", "EURUSD", "5m", "soon")


@pytest.mark.parametrize(("suffix", "starts"), [("html", b"<!doctype html>"), ("svg", b"<svg"), ("png", b"\x89PNG")])
def test_chart_draws_bars_and_gaps(database: psycopg.Connection, suffix: str, starts: bytes) -> None:
    assert said("chart", "EURUSD", "5m", "--out", f"chart.{suffix}") == f"chart.{suffix}: 16 bars, 1 gaps."
    drawn = Path(f"chart.{suffix}").read_bytes()
    assert drawn.startswith(starts)
    if suffix != "png":
        assert b"EURUSD 5m, bars of 2026-01-05 09:00 to 2026-01-05 10:25 UTC" in drawn
        assert (b'"fillcolor":"#ef5350"' if suffix == "html" else b"2 windows without a bar") in drawn
    if suffix == "html":
        assert b"cdn" not in drawn.split(b"plotly.js v")[0], "it needs no network"


def test_chart_of_raw_bars_and_of_nothing(database: psycopg.Connection) -> None:
    assert said("chart", "EURUSD", "1m") == "EURUSD-1m.html: 82 bars, 2 gaps."
    assert "does not end in one of .html, .svg, .png" in refused("chart", "EURUSD", "5m", "--out", "chart.jpg")
    assert "The folder nowhere does not exist" in refused("chart", "EURUSD", "5m", "--out", "nowhere/chart.png")
    assert "There are no 1d bars of EURUSD" in refused("chart", "EURUSD", "1d")
    assert "There are no tasks of NOPE" in refused("chart", "NOPE", "1d")
    assert "is not 1 to 20,000 windows of 5m" in refused("chart", "EURUSD", "5m", "--from", "2020-01-01")


def log_run(gateway: AggGateway, *outcomes: tuple[str, dict[str, object]], success: bool) -> str:
    run_id = str(uuid.uuid4())
    gateway.open_run(run_id, job="agg-master", trigger="cron", environment="PROD")
    gateway.checkpoint(run_id, "selected_due_tasks", {"task_count": len(outcomes)})
    gateway.checkpoints(run_id, [{"checkpoint": task, "details": details} for task, details in outcomes])
    gateway.close_run(run_id, success=success, stats={})
    return run_id[:8]


def test_logs_list_runs_task_by_task(
    stack: Stack, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = open_gateway(stack, direct=True)
    good: tuple[str, dict[str, object]] = ("EURUSD/5m", {"outcome": "success", "error": None, "bars": 12, "windows": 0})
    bad: tuple[str, dict[str, object]] = ("GBPUSD/5m", {"outcome": "hard", "error": "22003 [out] of range"})
    assert said("logs").startswith("There is no run in ops_runlog")
    first = log_run(gateway, good, success=True)
    assert said("logs", "--failed").startswith("Nothing failed in ops_runlog (newest 10 runs")
    lines = run("logs").stdout.splitlines()
    assert [line[20:] for line in lines] == [
        f"{first} agg-master started by cron", f"{first} 1 tasks are due", f"{first} EURUSD/5m success bars 12",
        f"{first} ended: success",
    ]  # fmt: skip
    second = log_run(gateway, good, bad, success=False)
    failed = [f"{second} GBPUSD/5m hard : 22003 [out] of range", f"{second} ended: failed"]
    assert [line[20:] for line in run("logs", "--failed").stdout.splitlines()] == failed
    assert "GBPUSD" not in run("logs", "--symbol", "EURUSD").stdout
    assert first not in run("logs", "--runs", "1").stdout

    looks = 0

    def meanwhile(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise KeyboardInterrupt
        log_run(gateway, bad, success=False)

    monkeypatch.setattr(logs.time, "sleep", meanwhile)
    followed = run("logs", "--follow").stdout
    gateway.close()
    assert followed.count("started by cron") == 3, "each line once, and what came while it looked"
