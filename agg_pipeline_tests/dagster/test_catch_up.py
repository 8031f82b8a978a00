"""After a run that left work over, the next one starts at once."""

import datetime as dt

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.definitions import build_definitions
from agg_pipeline.orchestration.sensors.catch_up import KILLED_IN_A_ROW

HOURS = 2


@pytest.fixture
def two_hours_of_bars(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    """Bars of one symbol that end at the last full hour: 24 windows of 5m are due."""
    end = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    begin = end - dt.timedelta(hours=HOURS)
    one_gateway.register_asset("EURUSD", start=begin, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)
           select 'EURUSD', '1m', %s + m * interval '1 minute', 1, 2, 0.5, 1.5, 10, 'test'
             from generate_series(0, %s) m""",
        [begin, HOURS * 60 - 1],
    )


def run(defs: dg.Definitions, instance: dg.DagsterInstance, **config: object) -> None:
    defs.resolve_job_def("agg_master").execute_in_process(
        run_config={"ops": {"select_due": {"config": config}}}, instance=instance, raise_on_error=False
    )


def ask(defs: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[object, str | None]:
    """What the sensor wants now, and the cursor that it leaves."""
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=defs.resources or {}) as context:
        return defs.resolve_sensor_def("catch_up")(context), context.cursor


def test_a_run_that_left_a_backlog_is_followed_by_another_one(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None
) -> None:
    run(defs, instance, max_windows=5)
    asked, cursor = ask(defs, instance)
    assert isinstance(asked, dg.RunRequest), asked
    again, _ = ask(defs, instance, cursor)
    assert isinstance(again, dg.SkipReason), "one run is followed once"


def test_a_failed_run_is_followed_too_for_the_sake_of_the_others(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    two_hours_of_bars: None,
    one_gateway: AggGateway,
    clean: psycopg.Connection,
) -> None:
    one_gateway.register_asset("POISON", start=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select 'POISON', timeframe, ts_utc, open, high, low, close, vol, 2000000000, source from data_bars"""
    )
    run(defs, instance, max_windows=5)
    (first,) = instance.get_runs()
    assert first.status == dg.DagsterRunStatus.FAILURE
    asked, _ = ask(defs, instance)
    assert isinstance(asked, dg.RunRequest), asked


def killed(
    defs: dg.Definitions, instance: dg.DagsterInstance, db: psycopg.Connection, gateway: AggGateway
) -> dg.DagsterRun:
    """A run whose process ended after it had taken a lease, and that said nothing any more."""
    run(defs, instance, timeframes=["1d"])
    newest = instance.get_runs(limit=1)[0]
    db.execute("update ops_runlog set status = 'running', finished_at = null where run_id = %s", [newest.run_id])
    (task,) = [
        one for one in gateway.due_tasks("PROD", now=None, limit=None, stale_seconds=900) if one.timeframe == "5m"
    ]
    assert gateway.start([task], now=None, owner=newest.run_id, lease_seconds=900)[0].success
    instance.report_run_failed(newest)
    return newest


def test_a_killed_run_is_followed_at_once_and_holds_no_lease_any_more(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    two_hours_of_bars: None,
    one_gateway: AggGateway,
    clean: psycopg.Connection,
) -> None:
    dead = killed(defs, instance, clean, one_gateway)
    asked, _ = ask(defs, instance)
    assert isinstance(asked, dg.RunRequest), asked
    assert asked.run_key == f"after-{dead.run_id}"
    assert clean.execute("select count(*) from data_agg_state where lease_owner is not null").fetchone() == (0,)


def test_what_kills_each_run_is_left_to_the_schedule(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    two_hours_of_bars: None,
    one_gateway: AggGateway,
    clean: psycopg.Connection,
) -> None:
    for _ in range(KILLED_IN_A_ROW - 1):
        killed(defs, instance, clean, one_gateway)
        asked, _ = ask(defs, instance)
        assert isinstance(asked, dg.RunRequest), asked
    killed(defs, instance, clean, one_gateway)
    asked, _ = ask(defs, instance)
    assert "were killed" in str(asked)


def test_a_run_that_left_nothing_is_not_followed(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None
) -> None:
    run(defs, instance, max_windows=100)
    asked, _ = ask(defs, instance)
    assert isinstance(asked, dg.SkipReason), asked
    assert "No task is due" in str(asked)


def test_a_run_that_built_nothing_is_not_followed_though_work_is_due(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None
) -> None:
    """Else a task that cannot go on would have the daemon launch runs without end."""
    run(defs, instance, timeframes=["1d"])
    asked, _ = ask(defs, instance)
    assert isinstance(asked, dg.SkipReason), asked
    assert "built no window" in str(asked)


def test_a_database_that_does_not_answer_is_asked_again(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    two_hours_of_bars: None,
    settings_of_the_stack: pytest.MonkeyPatch,
) -> None:
    run(defs, instance, max_windows=5)
    with settings_of_the_stack.context() as away:
        away.setenv("SUPABASE_URL", "http://127.0.0.1:9")
        asked, cursor = ask(build_definitions(), instance)
    assert isinstance(asked, dg.SkipReason), asked
    assert "could not be read" in str(asked)
    asked, _ = ask(defs, instance, cursor)
    assert isinstance(asked, dg.RunRequest), asked


def test_a_task_that_stands_still_starts_no_chain_of_runs(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None, clean: psycopg.Connection
) -> None:
    """Each of them would build the same windows again; the schedule goes on trying."""
    clean.execute(
        """create function public.hold() returns trigger language plpgsql as $$
           begin new.last_agg_bar_ts_utc := old.last_agg_bar_ts_utc; return new; end $$;
           create trigger hold before update on data_agg_state
             for each row when (old.timeframe = '5m') execute function public.hold()"""
    )
    try:
        run(defs, instance, max_windows=5)
        run(defs, instance, max_windows=5)
        asked, _ = ask(defs, instance)
        assert isinstance(asked, dg.SkipReason), asked
        assert "No task is due" in str(asked)
    finally:
        clean.execute("drop trigger hold on data_agg_state; drop function public.hold()")
    asked, _ = ask(defs, instance)
    assert isinstance(asked, dg.SkipReason), "it is still stalled until a run has got it on"
    run(defs, instance, max_windows=5)
    asked, _ = ask(defs, instance)
    assert isinstance(asked, dg.RunRequest), asked
