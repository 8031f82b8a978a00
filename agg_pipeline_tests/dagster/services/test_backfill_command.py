"""`agg-pipeline backfill` against Dagster's real webserver, daemon and code server: one run, beside the ticks."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.orchestration.tags import PROGRESS
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.oracle import assert_equals_oracle

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
DAYS = 7
SYMBOLS = ["AAA", "BBB", "CCC"]
INTERVAL_S = 300  # between two ticks of the schedule


@pytest.fixture
def a_week(client: DagsterClient, one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    """Three symbols with a week of bars, none of them built."""
    for symbol in SYMBOLS:
        one_gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select s, '1m', %s + m * interval '1 minute', m, m + 2, m - 1, m + 1, 10, 1, 'test'
             from unnest(%s::text[]) s, generate_series(0, %s * 1440 - 1) m""",
        [BEGIN, SYMBOLS, DAYS],
    )
    return clean


def backfill(client: DagsterClient, *arguments: str) -> Result:
    days = ["--from", "2026-01-05", "--to", "2026-01-11"]
    return CliRunner().invoke(app, ["backfill", *days, "--ui", client.url, *arguments])


def test_a_week_of_three_symbols_in_one_run_delays_no_tick_beside_it(
    client: DagsterClient, a_week: psycopg.Connection
) -> None:
    tick = client.launch(config={"max_windows": 20})
    with ThreadPoolExecutor(1) as other_terminal:
        pending = other_terminal.submit(backfill, client)
        client.wait(lambda: [run for run in client.runs() if PROGRESS in run.tags], "the backfill is at work")
        ticks = [tick, client.launch(config={"max_windows": 20})]
        result = pending.result()
    assert result.exit_code == 0, result.output
    assert "CCC" in result.stdout
    run = next(run for run in client.runs(progress="100 %"))
    assert run.status == "SUCCESS"
    for ended in map(client.wait_for_end, ticks):
        events = [event for event in client.events(ended.run_id) if "Failure" in event["__typename"]]
        said = [event.get("failureMetadata") or event.get("error") or event["message"] for event in events]
        assert ended.status == "SUCCESS", f"a task that is busy is no failure: {said}"
        assert ended.ended is not None
        waited_s = ended.ended - ended.created
        print(f"A tick beside the backfill ended {waited_s:.1f} s after its launch.")
        assert waited_s < INTERVAL_S
    client.wait(lambda: all(run.has_ended for run in client.runs()), "the ticks that followed")
    counts = assert_equals_oracle(a_week)
    assert [counts["BBB", t] for t in ("5m", "15m", "1h", "4h", "1d")] == [2016, 672, 168, 42, 7]
    days = """{ assetNodes(assetKeys: [{path: ["prod", "bars_1h"]}]) { partitionStats { numMaterialized } } }"""
    (node,) = client.ask(days)["assetNodes"]
    assert node["partitionStats"]["numMaterialized"] >= DAYS


@pytest.mark.nightly
def test_a_dry_run_prints_the_plan_and_what_cannot_be_done_is_one_line(
    client: DagsterClient, a_week: psycopg.Connection
) -> None:
    result = backfill(client, "--symbol", "AAA", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "What would change" in result.stdout
    assert "2,015" in result.stdout, "windows that were never built: the lag of the task"
    assert a_week.execute("select count(*) from derived_data_bars").fetchone() == (0,)
    unknown = backfill(client, "--symbol", "NOPE")
    assert (unknown.exit_code, unknown.stderr.count("\n")) == (1, 1), unknown.output
    assert "1 of 1 symbols failed: NOPE: " in unknown.stderr
