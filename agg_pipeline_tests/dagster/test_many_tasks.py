"""Ten thousand tasks in one run, a thousand a step: the few that break are named, the others stand."""

import time

import dagster as dg
import psycopg
import pytest

from agg_pipeline.definitions import build_definitions
from agg_pipeline.orchestration.ops import FAILED_TASKS, MAX_LINES
from agg_pipeline_tests.sql.helpers import at, scalar

TASKS = 10_000
POISONED = ["S17", "S4711", "S9999"]


@pytest.mark.nightly
def test_three_poisoned_tasks_of_ten_thousand(
    settings_of_the_stack: pytest.MonkeyPatch, clean: psycopg.Connection, instance: dg.DagsterInstance
) -> None:
    settings_of_the_stack.setenv("MAX_TASKS_PER_RUN", str(TASKS))
    settings_of_the_stack.setenv("TASKS_PER_STEP", "1000")
    clean.execute(
        "insert into core_asset_registry_all (canonical_symbol) select 'S' || n from generate_series(1, %s) n", [TASKS]
    )
    clean.execute("select sync_agg_state_from_registry('prod', %s)", [at("00:00")])
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select 'S' || n, '1m', %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10,
                  case when 'S' || n = any (%s) then 2000000000 end, 'test'
             from generate_series(1, %s) n, generate_series(0, 4) m""",
        [at("00:00"), POISONED, TASKS],
    )
    clean.execute("analyze")  # as autovacuum does within a minute
    began = time.monotonic()
    result = build_definitions().resolve_job_def("agg_master").execute_in_process(
        run_config={
            "ops": {"select_due": {"config": {"now_utc": at("00:06").isoformat(), "timeframes": ["5m"]}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        instance=instance,
        raise_on_error=False,
    )  # fmt: skip
    spent_s = time.monotonic() - began
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    details = failure.step_failure_data.user_failure_data
    assert details is not None
    assert FAILED_TASKS in details.metadata, (failure.step_key, details.description)
    assert sorted(details.metadata[FAILED_TASKS].value) == [f"{symbol}/5m" for symbol in POISONED]  # type: ignore[arg-type]
    assert scalar(clean, "select count(*) from derived_data_bars where deleted_at is null") == TASKS - len(POISONED)
    assert scalar(clean, "select count(*) from data_agg_state where hard_fail_streak = 1") == len(POISONED)
    assert scalar(clean, "select count(*) from data_agg_state where status = 'running'") == 0
    # A row of the event log takes milliseconds to write: their number must not grow with the tasks.
    assert len(instance.all_logs(result.run_id)) < 400
    longest = max(len(entry.user_message) for entry in instance.all_logs(result.run_id))
    assert longest < 200 * MAX_LINES
    assert spent_s < 120, "a task that breaks must not make all others go one by one"
