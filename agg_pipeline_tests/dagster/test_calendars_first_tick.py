"""The first tick, or backfill, of a symbol stores the sessions of its calendar before it builds a bar."""

from collections.abc import Iterator

import dagster as dg
import psycopg
import pytest

from agg_pipeline_tests.dagster.test_backfill import backfill
from agg_pipeline_tests.fx_weekend import NOW, START, WEEKEND_4H, assert_weekend, graded_bars, put_weekend
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sessions import forget_sessions
from agg_pipeline_tests.sql.helpers import at, register, scalar, settle

UNKNOWN = "XNOPE"


@pytest.fixture
def db(clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection]:
    """EURUSD, registered as FX by its ingester, with the bars of a weekend and without sessions."""
    monkeypatch.setenv("TASKS_PER_STEP", "10")  # one step instead of five, which take a second
    forget_sessions(clean)
    clean.execute("insert into trading_calendars (calendar) values (%s)", [UNKNOWN])
    clean.execute("select agg_register_asset('EURUSD', %s, '1m', 'fx')", [at(START)])
    put_weekend(clean, "EURUSD")
    yield clean
    clean.execute("truncate core_asset_registry_all cascade")
    forget_sessions(clean)
    clean.execute("delete from trading_calendars where calendar = %s", [UNKNOWN])


def tick(defs: dg.Definitions, instance: dg.DagsterInstance) -> tuple[bool, list[str]]:
    """Whether a run at NOW succeeded, and its warnings."""
    config = {"now_utc": NOW + ":00Z", "max_windows": 1000}
    result = defs.resolve_job_def("agg_master").execute_in_process(
        run_config={"ops": {"select_due": {"config": config}}}, instance=instance, raise_on_error=False
    )
    logged = instance.all_logs(result.run_id)
    return result.success, [entry.user_message for entry in logged if entry.level == 30]


def test_the_first_tick_builds_with_the_sessions(
    defs: dg.Definitions, instance: dg.DagsterInstance, db: psycopg.Connection
) -> None:
    assert tick(defs, instance) == (True, [])
    assert_weekend(db, "EURUSD")
    assert scalar(db, "select max(revision) from derived_data_bars") == 1, "built once, with the sessions"


def test_calendars_that_fail_do_not_stop_the_ticks(
    defs: dg.Definitions, instance: dg.DagsterInstance, db: psycopg.Connection
) -> None:
    """First none can be read; then one is unknown to exchange_calendars. What is built meanwhile heals."""
    db.execute("revoke execute on function agg_calendars() from service_role")
    try:
        success, warnings = tick(defs, instance)
    finally:
        db.execute("grant execute on function agg_calendars() to service_role")
    assert success
    (warning,) = warnings
    assert warning.startswith(
        "Calendars that are new have no sessions, so all their time counts as open. agg_calendars"
    )
    assert warning.endswith("`agg-pipeline calendars --apply` tries again.")
    assert ("Fri 16:00", 4, 4, 2) in graded_bars(db, "EURUSD", "4h")
    assert ("Fri 20:00", 2, 2, 2) not in graded_bars(db, "EURUSD", "4h")

    register(db, "ACME", start=START)
    put_weekend(db, "ACME")
    db.execute("select agg_set_calendar('ACME', %s)", [UNKNOWN])
    success, warnings = tick(defs, instance)
    assert success
    (warning,) = warnings
    assert warning.startswith(f"Calendar {UNKNOWN} has no sessions, so all its time counts as open. exchange_calendars")
    assert "`agg-pipeline calendar SYMBOL CALENDAR`" in warning
    settle(db, "2026-03-09T12:00")  # its Sunday lacks an hour, so it waits for the deadline
    assert_weekend(db, "EURUSD")
    assert ("Fri 16:00", 4, 4, 2) in graded_bars(db, "ACME", "4h")
    assert_equals_oracle(db, ["ACME"])


def test_a_backfill_builds_with_the_sessions(
    defs: dg.Definitions, instance: dg.DagsterInstance, db: psycopg.Connection
) -> None:
    assert backfill(defs, instance, "2026-03-06", "2026-03-08", ["4h"]).success
    assert graded_bars(db, "EURUSD", "4h") == WEEKEND_4H
    assert scalar(db, "select max(revision) from derived_data_bars") == 1, "built once, with the sessions"


def test_the_nightly_job_refreshes_the_calendars_after_one_that_nobody_knows(
    defs: dg.Definitions, instance: dg.DagsterInstance, db: psycopg.Connection
) -> None:
    register(db, "ACME")
    db.execute("select agg_set_calendar('ACME', %s)", [UNKNOWN])
    result = defs.resolve_job_def("calendars").execute_in_process(instance=instance, raise_on_error=False)
    (failed,) = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert failed.step_failure_data.user_failure_data.description.startswith(f"{UNKNOWN}: exchange_calendars")
    assert scalar(db, "select count(*) from trading_sessions where calendar = 'fx_24x5'") > 1900
