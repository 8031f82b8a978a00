"""What the UI's pages show: a tick launched by its button, what became of the assets, what runs by itself."""

import contextlib
import re
from collections.abc import Callable

import psycopg
import pytest
from playwright.sync_api import expect

from agg_pipeline.orchestration.check_evaluations import check_specs
from agg_pipeline.orchestration.materializations import PLOTTED_METRICS
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.ui.browser import Browser, is_drawn, is_red

pytestmark = pytest.mark.ui

WRITTEN = {"5m": 3 * 48, "15m": 3 * 16, "1h": 3 * 4, "4h": 3}
ASSETS = ["bars_raw", "bars_5m", "bars_15m", "bars_1h", "bars_4h", "bars_1d"]


@pytest.fixture(scope="module")
def tick(market: psycopg.Connection, open_browser: Callable[[str], contextlib.AbstractContextManager[Browser]]) -> str:
    """A tick of the whole market, launched from the Launchpad as it opens; the id of the run, which succeeded."""
    with open_browser("tick") as browser:
        browser.open_launchpad("agg_master")
        for line in ("select_due:", "max_tasks: 50000", "symbols: []", "timeframes: []"):
            browser.sees(line)
        browser.picture("launchpad")
        run_id = browser.launch()
        assert not is_red(browser.wait_for_status("Success"))
    return run_id


def test_a_run_shows_what_it_materialized(browser: Browser, tick: str) -> None:
    browser.open_run(tick)
    browser.wait_for_status("Success")
    browser.sees("Errored (0)")
    browser.sees(f"{len(WRITTEN)} assets", exact=True)
    browser.filter_log("written in")
    for timeframe, bars in WRITTEN.items():
        browser.sees(f"{bars} {timeframe} bars written in PROD (tasks: 3).")
    links = browser.page.get_by_role("link", name="View Asset")
    expect(links).to_have_count(len(WRITTEN))
    browser.picture("run-success")
    links.first.click()
    browser.page.wait_for_url("**/assets/prod/bars_5m?**")


def test_an_asset_shows_the_figures_of_its_last_materialization(browser: Browser, tick: str) -> None:
    browser.open_asset("prod/bars_1h")
    browser.sees("Latest materialization")
    for name, value in {"tasks": 3, "failed": 0, "windows_processed": 12, "bars_created": 12}.items():
        expect(browser.figure(name).get_by_role("cell").last).to_have_text(str(value))
    browser.picture("asset")
    browser.open_asset("prod/bars_1h", "Events")
    browser.sees(tick[:8])
    browser.sees("12 1h bars written in PROD (tasks: 3).")
    browser.picture("asset-events")


def test_an_asset_plots_its_figures(browser: Browser, tick: str, client: DagsterClient) -> None:
    browser.open_asset("prod/bars_1h")
    charts = browser.open_plots()
    browser.sees("bars_created", exact=True)
    client.wait(lambda: is_drawn(charts.first), "the chart is drawn")
    for figure in (*PLOTTED_METRICS, "backlog_windows", "bars_of_day", "quality_2", "quality_minus_1"):
        expect(browser.page.get_by_text(figure, exact=True)).to_be_visible()
    browser.picture("asset-plots")


def test_the_lineage_shows_every_timeframe(browser: Browser, tick: str) -> None:
    browser.open_lineage()
    for asset in ASSETS:
        in_list_and_graph = browser.page.get_by_text(asset, exact=True).filter(visible=True)
        expect(in_list_and_graph).to_have_count(2)
    expect(browser.page.get_by_text(re.compile(r"^[\d,]+ partitions$"))).to_have_count(len(ASSETS) - 1)
    all_of = sum(spec.asset_key.path[-1] == "bars_1h" for spec in check_specs())
    expect(browser.page.get_by_text(f"{all_of} / {all_of} Passed")).to_have_count(3)  # 15m, 1h, 4h: a 5m feed is silent
    browser.picture("lineage")


def test_schedules_and_sensors_are_switched_on(browser: Browser) -> None:
    browser.open_section("Automation")
    automated = ("agg_every_5_minutes", "retention_daily", "calendars_daily", "catch_up", "rerun_failed_tasks")
    for name in (*automated, "release_leases"):
        expect(browser.switch(name)).to_be_checked()
    browser.picture("automation")
