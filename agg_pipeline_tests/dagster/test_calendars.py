"""The job that keeps sessions years ahead, and the schedule that starts it only when there is something to do."""

import dagster as dg
import psycopg
import pytest

from agg_pipeline.definitions import build_definitions
from agg_pipeline_tests.sql.helpers import register, scalar


@pytest.fixture
def market(clean: psycopg.Connection) -> psycopg.Connection:
    """An FX pair whose calendar has no sessions yet."""
    clean.execute("delete from trading_sessions where calendar = 'fx_24x5'")
    clean.execute(
        "update trading_calendars set from_utc = null, to_utc = null, refreshed_at = null where calendar = 'fx_24x5'"
    )
    register(clean, "EURUSD")
    clean.execute("update core_asset_registry_all set trading_calendar = 'fx_24x5'")
    return clean


def evaluated(defs: dg.Definitions) -> dg.RunRequest | dg.SkipReason:
    with dg.build_schedule_context(resources={"supabase": defs.resources["supabase"]}) as context:
        answer = defs.resolve_schedule_def("calendars_daily")(context)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


def test_the_job_fills_what_is_followed_and_the_schedule_rests_then(
    settings_of_the_stack: pytest.MonkeyPatch, market: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    defs = build_definitions()
    assert isinstance(evaluated(defs), dg.RunRequest)
    result = defs.resolve_job_def("calendars").execute_in_process(instance=instance)
    (output,) = [e for e in result.all_node_events if e.event_type == dg.DagsterEventType.STEP_OUTPUT]
    figures = {name: value.value for name, value in output.step_output_data.metadata.items()}
    stored = scalar(market, "select count(*) from trading_sessions where calendar = 'fx_24x5'")
    assert figures == {"sessions_added": stored, "sessions_removed": 0, "sessions_changed": 0}
    assert stored > 1900
    resting = evaluated(defs)
    assert isinstance(resting, dg.SkipReason)
    assert resting.skip_message == "The sessions of all calendars in use are up to date."


def test_a_change_of_known_sessions_is_logged(
    settings_of_the_stack: pytest.MonkeyPatch,
    market: psycopg.Connection,
    instance: dg.DagsterInstance,
) -> None:
    defs = build_definitions()
    job = defs.resolve_job_def("calendars")
    job.execute_in_process(instance=instance)
    market.execute("delete from trading_sessions where calendar = 'fx_24x5' and open_utc = '2026-01-04T22:00Z'")
    result = job.execute_in_process(instance=instance)
    assert result.success
    said = [event.user_message for event in instance.all_logs(result.run_id)]
    assert [line for line in said if "fx_24x5: added 2026-01-04 22:00:00+00:00" in line]
