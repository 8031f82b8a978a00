"""A backfill as an operator does it: a month of three symbols in one run, what it shows, and its checks."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator

import psycopg
import pytest
from playwright.sync_api import expect

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.dagster.client import DagsterClient, Run
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.ui.browser import Browser, is_drawn
from agg_pipeline_tests.ui.conftest import clear

pytestmark = pytest.mark.ui

DAYS = 30
BEGIN = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=DAYS)
LAST = BEGIN + dt.timedelta(days=DAYS - 1)
SYMBOLS = ["AAA", "BBB", "CCC"]


@pytest.fixture(scope="module")
def month(client: DagsterClient, stack: Stack) -> Iterator[psycopg.Connection]:
    """A month of waves of four symbols, with a hole of some hours every other day; nothing is built of them yet."""
    gateway = open_gateway(stack, direct=stack.api_url is None)
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        clear(db, client)
        for symbol in [*SYMBOLS, "OTHER"]:
            gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
        db.execute(
            """insert into data_bars (canonical_symbol, timeframe, source, ts_utc, open, high, low, close, vol)
               select s, '1m', 'test', %s + m * interval '1 minute', p, p + 1, p - 1, p + 0.5, 10 + m %% 7
                 from unnest(%s::text[]) s, generate_series(0, %s * 1440 - 1) m,
                      lateral (select 100 + 20 * sin(m / 300.0) + 3 * sin(m / 11.0) as p) wave
                where m %% 3000 < 2800""",
            [BEGIN, [*SYMBOLS, "OTHER"], DAYS],
        )
        yield db
    gateway.close()


@pytest.fixture(scope="module")
def backfill(
    month: psycopg.Connection,
    client: DagsterClient,
    open_browser: Callable[[str], contextlib.AbstractContextManager[Browser]],
) -> Run:
    """Launched from the lineage, watched to its end; its only run."""
    with open_browser("backfill") as browser:
        config = f"ops: {{backfill_bars: {{config: {{symbols: [{', '.join(SYMBOLS)}]}}}}}}"
        backfill_id = browser.launch_backfill(f"{BEGIN:%Y-%m-%d}", f"{LAST:%Y-%m-%d}", config)
        browser.sees(f"{BEGIN:%Y-%m-%d}...{LAST:%Y-%m-%d}")
        client.wait(lambda: client.runs_of_backfill(backfill_id), "the backfill's run")
        (run,) = client.runs_of_backfill(backfill_id)
        assert client.wait_for_end(run.run_id).status == "SUCCESS"
        expect(browser.page.get_by_text("100% completed")).to_have_count(5)
        browser.sees("Succeeded", exact=True)
        browser.picture("backfill-done")
        (run,) = client.runs_of_backfill(backfill_id)
    return run


def test_a_month_of_three_symbols_is_one_run_that_builds_just_those(backfill: Run, month: psycopg.Connection) -> None:
    assert backfill.tags["agg/progress"] == "100 %"
    built = month.execute(
        "select array_agg(distinct canonical_symbol order by canonical_symbol) from derived_data_bars"
    ).fetchone()
    assert built == (SYMBOLS,)
    month.execute("delete from data_agg_state where canonical_symbol = 'OTHER'")
    assert assert_equals_oracle(month)["BBB", "1d"] == DAYS


def test_the_asset_shows_what_was_done_plots_each_day_and_draws_the_last_bars(
    browser: Browser, backfill: Run, client: DagsterClient
) -> None:
    browser.open_asset("prod/bars_1h")
    browser.sees("windows without a bar")
    browser.sees(f"select * from ops_runlog where run_id = '{backfill.run_id}'")
    browser.picture("backfill-asset")
    browser.page.get_by_text("[Show Markdown]").click()
    pictures = browser.page.get_by_role("dialog").get_by_role("img", name="candles")
    expect(pictures).to_have_count(len(SYMBOLS))
    wide = pictures.first.evaluate("picture => picture.complete && picture.naturalWidth")
    assert wide > 500, "the picture is shown"
    browser.picture("backfill-candles")
    browser.page.keyboard.press("Escape")
    charts = browser.open_plots()
    browser.sees("bars_of_day", exact=True)
    client.wait(lambda: is_drawn(charts.nth(1)), "the chart is drawn")
    browser.picture("backfill-plots")


def test_the_checks_are_green_say_what_they_looked_at_and_can_be_asked_again(
    browser: Browser, backfill: Run, client: DagsterClient
) -> None:
    browser.open_checks("prod/bars_1h")
    expect(browser.checks("Succeeded")).to_have_count(5)
    browser.page.get_by_text("matches_recomputation").first.click()
    browser.sees(f"AAA, BBB, CCC, all days from {BEGIN:%Y-%m-%d} to {LAST:%Y-%m-%d}")
    browser.picture("checks")
    before = {run.run_id for run in client.runs()}
    browser.page.get_by_role("button", name="Execute all").click()
    (asked,) = client.wait(lambda: [run for run in client.runs() if run.run_id not in before], "a run of the checks")
    assert client.wait_for_end(asked.run_id).status == "SUCCESS"
    browser.sees("the last 7 days of ")
    expect(browser.checks("Succeeded")).to_have_count(5)
    browser.picture("checks-again")
