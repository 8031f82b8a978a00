"""The whole of it: code server, webserver and daemon as `agg-pipeline up` starts them, and a tick of the schedule."""

import datetime as dt
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import psycopg

from agg_pipeline.cli.services import Services, dagster_services, free_port
from agg_pipeline.gateway import AggGateway
from agg_pipeline.local import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle

PATIENCE_S = 150  # a slot within a minute, and a busy machine


def graphql(services: Services, query: str) -> Any:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{services.url}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.load(response)["data"]


def finished_runs(services: Services) -> list[dict[str, Any]]:
    asked = "{ runsOrError { ... on Runs { results { runId status tags { key value } } } } }"
    runs = graphql(services, asked)["runsOrError"]["results"]
    return [run for run in runs if run["status"] in ("SUCCESS", "FAILURE", "CANCELED")]


def test_the_daemon_runs_a_scheduled_tick(
    stack: Stack, clean: psycopg.Connection, one_gateway: AggGateway, tmp_path: Path
) -> None:
    """Bars that were there before the slot are rolled up after it, under Dagster's run id, by nobody's hand."""
    hour = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    one_gateway.register_asset("EURUSD", start=hour - dt.timedelta(hours=4), base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)
           select 'EURUSD', '1m', %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10, 'test'
             from generate_series(0, 179) m""",
        [hour - dt.timedelta(hours=4)],
    )
    environment = stack.environment() | {"ENV_NAME": "prod", "TASKS_PER_STEP": "2"}
    module = "agg_pipeline_tests.dagster.every_minute"
    with dagster_services(tmp_path, environment, host="127.0.0.1", port=free_port(), module=module) as services:
        deadline = time.monotonic() + PATIENCE_S
        while not (done := finished_runs(services)):
            assert services.alive(), "a Dagster process ended by itself"
            assert time.monotonic() < deadline, f"no run after {PATIENCE_S} s"
            time.sleep(1)
        run = done[-1]
        tags = {tag["key"]: tag["value"] for tag in run["tags"]}
        assert run["status"] == "SUCCESS"
        assert tags["dagster/schedule_name"] == "agg_every_5_minutes"
        assert tags["agg/tick"] == "prod"
        assets = graphql(services, "{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }")
    diary = clean.execute(
        "select run_id::text, trigger, env_name, status from ops_runlog order by id limit 1"
    ).fetchone()
    assert diary == (run["runId"], "cron", "PROD", "success")
    assert {"bars_5m", "bars_15m", "bars_1h"} <= {node["key"]["path"][0] for node in assets["assetsOrError"]["nodes"]}
    assert assert_equals_oracle(clean)["EURUSD", "1h"] == 3
