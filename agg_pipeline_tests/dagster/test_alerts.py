"""Whom the sensor tells of what: through a real webhook, once for each change, and no secret in any message."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.orchestration.notifications import send
from agg_pipeline.orchestration.sensors.alerts import build_alert_sensor
from agg_pipeline.settings import load_settings
from agg_pipeline_tests.sql.helpers import alter_task

SECRET = "planted-secret"


class Webhook:
    """What it was told, and the status that it answers."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 200

    def take(self) -> list[str]:
        """Messages since the last look, title and text."""
        taken = [f"{message['title']}\n{message['message']}" for message in self.told]
        self.told.clear()
        return taken


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(hook.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ALERT_URLS", f"json://127.0.0.1:{server.server_port}/{SECRET}")
        yield hook
        server.shutdown()


class Sensor:
    """The sensor with its cursor, asked by hand instead of every minute."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.sensor, self.defs, self.instance = build_alert_sensor(load_settings()), defs, instance
        self.cursor: str | None = None

    def ask(self) -> str:
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=self.defs.resources or {}
        ) as context:
            said = self.sensor(context)
            self.cursor = context.cursor
        assert SECRET not in f"{said} {self.cursor}"
        return str(said)


@pytest.fixture
def sensor(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    webhook: Webhook,
    one_gateway: AggGateway,
    clean: psycopg.Connection,
) -> Sensor:
    import datetime as dt

    one_gateway.register_asset("EURUSD", start=dt.datetime(2026, 1, 5, tzinfo=dt.UTC), base_timeframe="1m")
    return Sensor(defs, instance)


def test_each_change_is_told_once(sensor: Sensor, webhook: Webhook, clean: psycopg.Connection) -> None:
    assert "No change; 0 of 5 tasks" in sensor.ask()
    alter_task(clean, "EURUSD", "5m", hard_fail_streak=1, last_error="boom")
    alter_task(clean, "EURUSD", "1h", status="disabled", hard_fail_streak=3)
    assert "Sent: agg_pipeline: 2 need an operator" in sensor.ask()
    assert webhook.take() == [
        "agg_pipeline: 2 need an operator\nEURUSD/5m is failed: 1 failure at the window of 2026-01-05 00:00\n"
        "EURUSD/1h is disabled: stopped after 3 failures in a row"
    ]
    assert "No change; 2 of 5" in sensor.ask()
    alter_task(clean, "EURUSD", "5m", hard_fail_streak=0)
    clean.execute("select agg_pause_task('EURUSD', '1h', 'known', 'ann')")
    alter_task(clean, "EURUSD", "1h", status="idle")
    sensor.ask()
    assert webhook.take() == ["agg_pipeline: 1 recovered\nEURUSD/5m has recovered: waiting for data"]
    sensor.ask()
    assert webhook.take() == []


def test_what_could_not_be_sent_is_sent_again(sensor: Sensor, webhook: Webhook, clean: psycopg.Connection) -> None:
    alter_task(clean, "EURUSD", "5m", stall_streak=2)
    webhook.status = 500
    assert "1 of ALERT_URLS did not accept the message" in sensor.ask()
    webhook.take()
    webhook.status = 200
    sensor.ask()
    (message,) = webhook.take()
    assert "EURUSD/5m is stalled: 2 runs succeeded and left the cursor at 2026-01-05 00:00" in message


def test_a_database_that_is_gone_is_told_and_so_is_its_return(
    sensor: Sensor, webhook: Webhook, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter_task(clean, "EURUSD", "5m", hard_fail_streak=1)
    sensor.ask()
    webhook.take()
    clean.execute("revoke execute on function agg_health from service_role")
    clean.execute("notify pgrst, 'reload schema'")
    try:
        sensor.ask()
        sensor.ask()
        (message,) = webhook.take()
        assert message.startswith("agg_pipeline: the database cannot be reached\nagg_health failed: 42501 ")
    finally:
        clean.execute("grant execute on function agg_health to service_role")
    sensor.ask()
    assert webhook.take() == ["agg_pipeline: the database can be reached again\nNo other change."]
    assert "No change; 1 of 5" in sensor.ask()


def test_without_addresses_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_URLS", "")
    assert build_alert_sensor(load_settings()).default_status == dg.DefaultSensorStatus.STOPPED
    monkeypatch.setenv("ALERT_URLS", f"json://127.0.0.1/{SECRET}")
    assert build_alert_sensor(load_settings()).default_status == dg.DefaultSensorStatus.RUNNING
    assert SECRET not in repr(load_settings())


@pytest.mark.parametrize(
    ("form", "shown"), [("text", "<b>/5m & [/]/5m"), ("html", "&lt;b&gt;/5m&nbsp;&amp;&nbsp;[/]/5m")]
)
def test_a_name_is_no_markup_of_the_service(webhook: Webhook, form: str, shown: str) -> None:
    """A service that takes HTML, as most mail services do, gets the name escaped."""
    assert send(f"{os.environ['ALERT_URLS']}?format={form}", "agg_pipeline", "<b>/5m & [/]/5m") == 0
    assert webhook.take() == [f"agg_pipeline\n{shown}"]
