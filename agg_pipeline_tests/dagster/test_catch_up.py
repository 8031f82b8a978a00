"""After a run that left work over, the next one starts at once."""

import datetime as dt

import dagster as dg
import psycopg
import pytest

from agg_pipeline.gateway import AggGateway

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


def after_a_run(defs: dg.Definitions, instance: dg.DagsterInstance, config: dict[str, object]) -> object:
    """Run the job with this config, then ask the sensor what is next."""
    result = defs.resolve_job_def("agg_master").execute_in_process(
        run_config={"ops": {"select_due": {"config": config}}}, instance=instance
    )
    run, event = instance.get_run_by_id(result.run_id), result.all_events[-1]
    assert run is not None
    sensor = defs.resolve_sensor_def("catch_up")
    with dg.build_run_status_sensor_context(
        "catch_up", event, instance, run, resources=defs.resources or {}
    ) as context:
        return sensor(context)


def test_a_run_that_left_a_backlog_is_followed_by_another(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None
) -> None:
    asked = after_a_run(defs, instance, {"max_windows": 5})
    assert isinstance(asked, dg.RunRequest), asked


def test_a_run_that_left_nothing_is_not_followed(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None
) -> None:
    asked = after_a_run(defs, instance, {"max_windows": 100})
    assert isinstance(asked, dg.SkipReason), asked
    assert "Nothing is left over" in str(asked)


def test_a_run_that_built_nothing_is_not_followed_though_work_is_due(
    defs: dg.Definitions, instance: dg.DagsterInstance, two_hours_of_bars: None
) -> None:
    """Else a task that cannot go on would have the daemon launch runs without end."""
    asked = after_a_run(defs, instance, {"timeframes": ["1d"]})
    assert isinstance(asked, dg.SkipReason), asked
    assert "built no window" in str(asked)
