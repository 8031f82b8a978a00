"""Dagster on the session's stack, a browser before it, and a market of three symbols."""

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext

from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.dagster_services import dagster_services
from agg_pipeline.market.timeframes import Timeframe, window_start
from agg_pipeline_tests.conftest import TABLES, open_gateway
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.dagster.conftest import empty_storage
from agg_pipeline_tests.ui.browser import NAMES, PATIENCE_MS, SIZE, Browser, chromium_running, find_chromium

# Four hours that make one 4h bar, and ended long enough ago for every deadline.
BEGIN = window_start(dt.datetime.now(dt.UTC) - dt.timedelta(hours=7), Timeframe.H4)
SYMBOLS = ["AAA", "BBB", "POISON"]


@pytest.fixture(scope="session", autouse=True)  # so that nothing is started where there is none
def chromium() -> str:
    found = find_chromium()
    if found is None:
        pytest.skip(f"no browser: install Debian's package chromium, or put one of {', '.join(NAMES)} on the PATH")
    return found


@pytest.fixture(scope="session")
def client(chromium: str, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterClient]:
    """All of Dagster, its schedule at rest: what runs is what a test or a sensor starts."""
    root = tmp_path_factory.mktemp("dagster")
    with empty_storage(stack, root / "empty"):
        pass
    environment = stack.environment() | {"ENV_NAME": "prod"}
    module = "agg_pipeline_tests.dagster.by_hand"
    with dagster_services(root, environment, module=module) as services:
        yield DagsterClient(services.url, services)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    folder = os.environ.get("AGG_SCREENSHOTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def running_chromium(chromium: str) -> Iterator[Chromium]:
    with chromium_running(chromium) as running:
        yield running


@pytest.fixture(scope="module")
def context(running_chromium: Chromium) -> Iterator[BrowserContext]:
    """Somebody who has never been here; his pages share what the UI remembers, such as what was typed last."""
    with running_chromium.new_context(viewport=SIZE, locale="en-US", timezone_id="UTC") as opened:
        opened.set_default_timeout(PATIENCE_MS)
        yield opened


@pytest.fixture(scope="module")
def open_browser(
    context: BrowserContext, client: DagsterClient, pictures: Path
) -> Callable[[str], contextlib.AbstractContextManager[Browser]]:
    """A page of the UI; what it shows in the end is kept as a picture of that name, for whoever wonders why."""

    @contextlib.contextmanager
    def opened(name: str) -> Iterator[Browser]:
        browser = Browser(context.new_page(), client.url, pictures)
        try:
            yield browser
        finally:
            browser.picture(f"{name}-end")
            browser.page.close()

    return opened


@pytest.fixture
def browser(
    open_browser: Callable[[str], contextlib.AbstractContextManager[Browser]], request: pytest.FixtureRequest
) -> Iterator[Browser]:
    with open_browser(request.node.name) as opened:
        yield opened


def clear(db: psycopg.Connection, client: DagsterClient) -> None:
    """Empty tables, and no run that follows one of an earlier test."""
    client.wait(lambda: all(run.has_ended for run in client.runs()), "the runs of earlier tests end")
    db.execute(f"truncate {TABLES} restart identity cascade")
    client.wait(lambda: client.has_ticked("catch_up"), "the sensor catch_up finds nothing left over")


@pytest.fixture(scope="module")
def market(client: DagsterClient, stack: Stack) -> Iterator[psycopg.Connection]:
    """Four hours of bars of three symbols, nothing built of them yet. A connection that commits."""
    gateway = open_gateway(stack, direct=stack.api_url is None)
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        clear(db, client)
        for symbol in SYMBOLS:
            gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
        db.execute(
            """insert into data_bars (canonical_symbol, timeframe, source, ts_utc,
                                      open, high, low, close, vol, trade_count)
               select s, '1m', 'test', %s + m * interval '1 minute', 100 + m, 102 + m, 99 + m, 101 + m, 10, 1
                 from unnest(%s::text[]) s, generate_series(0, 239) m""",
            [BEGIN, SYMBOLS],
        )
        yield db
    gateway.close()
