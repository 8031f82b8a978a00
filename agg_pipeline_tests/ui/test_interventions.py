"""What an operator sees of a failure, and does about a run that hangs."""

from collections.abc import Iterator

import psycopg
import pytest
from playwright.sync_api import expect

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.sql.helpers import scalar
from agg_pipeline_tests.ui.browser import Browser, is_red

pytestmark = pytest.mark.ui


def only(symbol: str) -> str:
    return f"ops: {{select_due: {{config: {{symbols: [{symbol}]}}}}}}"


@pytest.fixture
def poison(market: psycopg.Connection) -> Iterator[None]:
    """A number of trades whose sum is too large for a bar."""
    trades = "update data_bars set trade_count = %s where canonical_symbol = 'POISON'"
    market.execute(trades, [2_000_000_000])
    yield
    market.execute(trades, [1])


@pytest.fixture
def locked(stack: Stack, market: psycopg.Connection) -> Iterator[None]:
    """A table that somebody has locked: a catch-up waits for it, again and again, holding its lease."""
    with psycopg.connect(stack.dsn) as somebody:
        somebody.execute("lock table derived_data_bars in exclusive mode")
        yield


def no_more_back_off(db: psycopg.Connection) -> None:
    """What a minute of waiting would do."""
    db.execute("update data_agg_state set next_run_at = now() where hard_fail_streak + transient_streak > 0")


@pytest.mark.usefixtures("poison")
def test_a_failed_run_is_red_names_the_task_and_leads_to_its_rerun(
    browser: Browser, client: DagsterClient, market: psycopg.Connection
) -> None:
    browser.open_launchpad("agg_master")
    browser.type_config(only("POISON"))
    failed = browser.launch()
    assert is_red(browser.wait_for_status("Failure"))
    browser.sees("Errored (1)")
    browser.sees("1 of 4 tasks failed: POISON/5m (hard): 22003 ")
    browser.picture("run-failure")

    (rerun,) = client.wait(lambda: no_more_back_off(market) or client.runs(rerun_of=failed), "the rerun")
    assert client.wait_for_end(rerun.run_id).status == "FAILURE"
    browser.open_section("Runs")
    expect(browser.listed_run(failed)).to_be_visible()
    expect(browser.listed_run(rerun.run_id)).to_be_visible()
    browser.picture("runs")
    browser.open_runs(rerun_of=failed)
    browser.sees(f"agg/rerun_of: {failed}")
    browser.sees("agg/attempt: 2")
    expect(browser.page.get_by_role("link", name="rerun_failed_tasks")).to_be_visible()
    expect(browser.listed_run(failed)).to_have_count(0)
    browser.picture("runs-rerun")
    browser.listed_run(rerun.run_id).click()
    browser.wait_for_status("Failure")
    assert browser.run_id == rerun.run_id


@pytest.mark.usefixtures("locked")
def test_a_terminated_run_is_canceled_and_its_lease_is_free(
    browser: Browser, client: DagsterClient, market: psycopg.Connection
) -> None:
    browser.open_launchpad("agg_master")
    browser.type_config(only("AAA"))
    run_id = browser.launch()
    held = "select lease_owner from data_agg_state where status = 'running'"
    client.wait(lambda: (run_id,) in market.execute(held).fetchall(), "a lease")
    browser.wait_for_status("Started")
    browser.picture("run-started")
    browser.terminate()
    browser.wait_for_status("Canceled")
    browser.sees_no_more("Terminate runs")
    browser.picture("run-canceled")
    free = "select count(*) = 0 from data_agg_state where status = 'running' or lease_owner is not null"
    client.wait(lambda: scalar(market, free), "all leases are free")
