"""The whole of it: code server, webserver and daemon as `agg-pipeline up` starts them, and a tick of the schedule."""

import datetime as dt

import psycopg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.market.timeframes import Timeframe, window_start
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.oracle import assert_equals_oracle


def test_the_daemon_runs_a_scheduled_tick(
    client: DagsterClient, clean: psycopg.Connection, one_gateway: AggGateway
) -> None:
    """Bars that were there before the slot are rolled up after it, under Dagster's run id, by nobody's hand."""
    # Four hours that make one 4h bar, and ended long enough ago for every deadline.
    begin = window_start(dt.datetime.now(dt.UTC) - dt.timedelta(hours=7), Timeframe.H4)
    one_gateway.register_asset("EURUSD", start=begin, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)
           select 'EURUSD', '1m', %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10, 'test'
             from generate_series(0, 239) m""",
        [begin],
    )
    client.start_schedule("agg_every_5_minutes")
    done = client.wait(lambda: [run for run in client.runs() if run.has_ended], "a slot of the schedule")
    client.stop_schedule("agg_every_5_minutes")
    run = done[-1]
    assert run.status == "SUCCESS"
    assert run.tags["dagster/schedule_name"] == "agg_every_5_minutes"
    assert run.tags["agg/tick"] == "prod"
    assets = client.ask("{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }")
    diary = clean.execute(
        "select run_id::text, trigger, env_name, status from ops_runlog order by id limit 1"
    ).fetchone()
    assert diary == (run.run_id, "cron", "PROD", "success")
    slot = clean.execute("select scheduled_for_ts from quality_workerhealth order by id limit 1").fetchone()
    assert slot == (dt.datetime.fromisoformat(run.tags["agg/slot"]),)
    assert {"prod/bars_5m", "prod/bars_15m", "prod/bars_1h"} <= {
        "/".join(node["key"]["path"]) for node in assets["assetsOrError"]["nodes"]
    }
    assert assert_equals_oracle(clean)["EURUSD", "1h"] == 4
