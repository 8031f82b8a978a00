"""The job, run in this process against the real database."""

import datetime as dt
from typing import Any

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline_tests.conftest import skip_without_rest
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
NOW = "2026-01-05T04:01:00Z"
SYMBOLS = ["AAA", "BBB", "CCC"]


@pytest.fixture
def four_hours(one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    """Three symbols with 240 minutes of bars each: 48 + 16 + 4 + 1 windows are due at NOW."""
    for symbol in SYMBOLS:
        one_gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select s, '1m', %s + m * interval '1 minute', 100 + m, 102 + m, 99 + m, 101 + m, 10, 1, 'test'
             from unnest(%s::text[]) s, generate_series(0, 239) m""",
        [BEGIN, SYMBOLS],
    )
    return clean


def run(
    defs: dg.Definitions, instance: dg.DagsterInstance, run_id: str | None = None, **config: object
) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("agg_master").execute_in_process(
        run_config={"ops": {"select_due": {"config": {"now_utc": NOW} | config}}},
        instance=instance,
        run_id=run_id,
        raise_on_error=False,
    )


def steps(result: dg.ExecuteInProcessResult) -> list[str]:
    return [e.step_key or "" for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_SUCCESS]


def materialized(result: dg.ExecuteInProcessResult) -> list[str]:
    events = [e for e in result.all_events if e.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION]
    return [e.step_materialization_data.materialization.asset_key.path[-1] for e in events]


def failure(result: dg.ExecuteInProcessResult) -> Any:
    failed = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert len(failed) == 1, failed
    return failed[0].step_failure_data.user_failure_data


def diary(db: psycopg.Connection) -> tuple[Any, ...]:
    rows = db.execute("select run_id::text, trigger, env_name, status, checkpoints, stats from ops_runlog").fetchall()
    assert len(rows) == 1
    return rows[0]


def test_a_run_builds_all_that_is_due_and_writes_its_diary(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    result = run(defs, instance)
    assert result.success
    counts = assert_equals_oracle(four_hours)
    assert {tf: counts["AAA", tf] for tf in ("5m", "15m", "1h", "4h", "1d")} == {
        "5m": 48, "15m": 16, "1h": 4, "4h": 1, "1d": 0}  # fmt: skip
    run_id, trigger, env_name, status, checkpoints, stats = diary(four_hours)
    assert (run_id, trigger, env_name, status) == (result.run_id, "manual", "PROD", "success")
    assert {"cron_start", "selected_due_tasks", "AAA/5m", "CCC/4h"} <= checkpoints.keys()
    assert stats == {"tasks": 12, "failed": [], "bars_created": 3 * 69, "bars_quality_poor": 0}
    idle = four_hours.execute("select bool_and(status = 'idle' and lease_owner is null) from data_agg_state").fetchone()
    assert idle == (True,)


def test_each_lease_is_given_back_before_the_next_is_taken(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    """One step a task, shorter timeframes first, and finish right after its aggregate."""
    order = steps(run(defs, instance, symbols=["AAA"]))
    assert order == [
        "select_due",
        *[
            f"{op}[0000{n}_AAA_{tf}]"
            for n, tf in enumerate(("5m", "15m", "1h", "4h"))
            for op in ("aggregate", "finish")
        ],
        "close_run",
    ]


def test_one_materialization_a_timeframe_with_figures_that_plot(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    result = run(defs, instance)
    made = [e.step_materialization_data.materialization for e in result.all_events
            if e.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION]  # fmt: skip
    assert [m.asset_key.path[-1] for m in made] == ["bars_5m", "bars_15m", "bars_1h", "bars_4h"]
    figures = {name: value.value for name, value in made[0].metadata.items()}
    assert figures["newest_window_utc"] == (BEGIN + dt.timedelta(hours=3, minutes=55)).timestamp()
    assert figures | {"tasks": 3, "bars_created": 144, "windows_processed": 144, "failed": 0} == figures
    quality = {"bars_of_day": 144, "quality_2": 144, "quality_1": 0, "quality_0": 0, "quality_minus_1": 0}
    assert figures | quality | {"backlog_windows": 0} == figures
    assert "| 2026-01-05 | 144 | 0 | 0 | 0 |" in figures["quality"]
    assert result.run_id in figures["ops_runlog"]


def test_a_timeframe_whose_tasks_all_failed_is_not_materialized(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    four_hours.execute("update data_bars set trade_count = 2000000000")
    result = run(defs, instance, timeframes=["5m"])
    assert not result.success
    assert materialized(result) == []


def test_the_run_config_narrows_and_bounds(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    result = run(
        defs, instance, symbols=["BBB", "CCC"], timeframes=["5m"], max_tasks=1, max_windows=7, trigger="rehearsal"
    )
    assert result.success
    bars = four_hours.execute(
        "select canonical_symbol, timeframe, count(*) from derived_data_bars group by 1, 2"
    ).fetchall()
    assert bars == [("BBB", "5m", 7)]
    assert diary(four_hours)[1] == "rehearsal"


def test_a_run_with_nothing_due_succeeds_and_says_so(
    defs: dg.Definitions, instance: dg.DagsterInstance, clean: psycopg.Connection
) -> None:
    result = run(defs, instance)
    assert steps(result) == ["select_due", "close_run"]
    assert diary(clean)[3] == "success"


def test_an_unknown_symbol_fails_the_run_and_lists_what_there_is(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    result = run(defs, instance, symbols=["NOPE"])
    assert not result.success
    assert "unknown symbol: NOPE. There are: AAA, BBB, CCC" in failure(result).description
    assert diary(four_hours)[3] == "failed"


def test_one_failing_task_makes_the_run_red_and_leaves_the_others_right(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    """A trade count beyond what the column holds breaks one window of one symbol for good."""
    four_hours.execute(
        """update data_bars set trade_count = 2000000000
            where canonical_symbol = 'BBB' and ts_utc < %s + interval '5 min'""",
        [BEGIN],
    )
    result = run(defs, instance)
    assert not result.success
    said = failure(result)
    assert said.description.startswith("1 of 12 tasks failed: BBB/5m (hard): 22003 ")
    assert said.metadata["failed_tasks"].value == ["BBB/5m"]
    assert "| BBB | 5m | hard | 22003 " in said.metadata["what failed"].value
    assert materialized(result) == ["bars_5m", "bars_15m", "bars_1h", "bars_4h"], "of the others"
    assert {check.check_name for check in result.get_asset_check_evaluations()} >= {"lag", "matches_recomputation"}
    _, _, _, status, checkpoints, stats = diary(four_hours)
    assert (status, stats["failed"]) == ("failed", ["BBB/5m"])
    assert "BBB/5m" in checkpoints
    bars = dict(four_hours.execute("select canonical_symbol, count(*) from derived_data_bars group by 1").fetchall())
    assert bars == {"AAA": 69, "CCC": 69}
    task = four_hours.execute(
        """select status, hard_fail_streak, lease_owner from data_agg_state
            where canonical_symbol = 'BBB' and timeframe = '5m'"""
    ).fetchone()
    assert task == ("idle", 1, None)


def test_a_task_that_the_database_leaves_out_makes_the_run_red_and_leaves_the_others_right(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection, one_gateway: AggGateway
) -> None:
    four_hours.execute(
        "update data_agg_state set last_agg_bar_ts_utc = 'infinity' where canonical_symbol = 'BBB' and timeframe = '5m'"
    )
    result = run(defs, instance)
    failed = failure(result)
    assert failed.metadata["failed_tasks"].value == ["BBB/5m"]
    assert "22008 due of BBB/5m failed" in failed.description
    assert "agg-pipeline repair" in failed.description
    (state,) = {task.state for task in one_gateway.health(["BBB"]) if task.timeframe == "5m"}
    assert state == "failed"
    four_hours.execute("update data_agg_state set last_agg_bar_ts_utc = null where canonical_symbol = 'BBB'")
    assert run(defs, instance).success
    assert assert_equals_oracle(four_hours)["BBB", "5m"] == 48


@pytest.mark.parametrize("size", sampled([2, 5, 100], [5]))
def test_larger_steps_give_the_same_bars(
    settings_of_the_stack: pytest.MonkeyPatch, instance: dg.DagsterInstance, four_hours: psycopg.Connection, size: int
) -> None:
    settings_of_the_stack.setenv("TASKS_PER_STEP", str(size))
    assert run(build_definitions(), instance).success
    assert sum(assert_equals_oracle(four_hours).values()) == 3 * 69


def test_an_unreachable_database_fails_the_run_in_one_line(
    settings_of_the_stack: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    settings_of_the_stack.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    result = run(build_definitions(), instance)
    assert not result.success
    assert "no answer from http://127.0.0.1:9" in failure(result).description


@pytest.mark.parametrize("now_utc", ["2026-01-05T04:01:00", "yesterday"])
def test_a_replay_at_no_time_is_refused(
    defs: dg.Definitions, instance: dg.DagsterInstance, clean: psycopg.Connection, now_utc: str
) -> None:
    result = run(defs, instance, now_utc=now_utc)
    assert not result.success
    assert f"now_utc='{now_utc}' is not a time with an offset" in failure(result).description


def test_a_wrong_key_is_said_to_be_a_setting(
    settings_of_the_stack: pytest.MonkeyPatch, instance: dg.DagsterInstance, clean: psycopg.Connection, stack: Stack
) -> None:
    skip_without_rest(stack)
    wrong = sign_token("not the secret of this server, but as long", {"role": "service_role"})
    settings_of_the_stack.setenv("SUPABASE_SERVICE_ROLE_KEY", wrong)
    result = run(build_definitions(), instance)
    said = failure(result).description
    assert said.startswith("No task was selected, and a setting has to be changed.")
    assert "set SUPABASE_SERVICE_ROLE_KEY" in said
    assert wrong not in said
