"""The tick job with awkward names: each task has its own step and succeeds, whatever its symbol is called."""

import datetime as dt

import dagster as dg
import psycopg
import pytest

from agg_pipeline.aggregation.selection import named_tasks
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.errors import PermanentError
from agg_pipeline_tests.dagster.test_job import failure, materialized, run, steps
from agg_pipeline_tests.names import NAMES

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
SIX_MINUTES = "2026-01-05T00:06:00Z"


@pytest.fixture
def five_minutes(one_gateway: AggGateway, clean: psycopg.Connection) -> psycopg.Connection:
    """Five minutes of bars of each name: one window is due."""
    for name in NAMES:
        one_gateway.register_asset(name, start=BEGIN, base_timeframe="1m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, trade_count, source)
           select s, '1m', %s + m * interval '1 minute', 100 + m, 102 + m, 99 + m, 101 + m, 10, 1, 'test'
             from unnest(%s::text[]) s, generate_series(0, 4) m""",
        [BEGIN, list(NAMES)],
    )
    return clean


def test_each_name_has_its_own_step_and_succeeds(
    defs: dg.Definitions, instance: dg.DagsterInstance, five_minutes: psycopg.Connection
) -> None:
    result = run(defs, instance, now_utc=SIX_MINUTES, max_tasks=100)
    assert result.success
    aggregated = [step for step in steps(result) if step.startswith("aggregate[")]
    assert len(set(aggregated)) == len(aggregated) == len(NAMES)
    assert {step[len("aggregate[00000_") :] for step in aggregated} >= {"BTC_2f_USD_5m]", "BTC_2d_USD_5m]", "null_5m]"}
    assert materialized(result) == ["bars_5m"]
    built = five_minutes.execute(
        "select canonical_symbol, timeframe, open, high, low, close, vol from derived_data_bars"
    )
    assert sorted(built) == sorted((name, "5m", 100, 106, 99, 105, 50) for name in NAMES)


def test_a_symbol_that_is_none_is_refused_with_the_rule(
    defs: dg.Definitions, instance: dg.DagsterInstance, one_gateway: AggGateway
) -> None:
    result = run(defs, instance, symbols=["AAA "])
    assert "symbol 'AAA ' begins or ends with a blank; a symbol is 1 to 100 characters" in failure(result).description
    with pytest.raises(PermanentError, match="a symbol is 1 to 100 characters"):
        named_tasks(["AAA /5m"], one_gateway)
