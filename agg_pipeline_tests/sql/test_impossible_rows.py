"""Rows, states and ranges that make no sense, drawn for one symbol: the others tick, and everything can be read."""

import psycopg
import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from pydantic import TypeAdapter

from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.database.models.rebuild import BadCursor
from agg_pipeline.database.models.tasks import DueTasks, StartResult
from agg_pipeline_tests.impossible import TIMEFRAMES, plant, raw_rows, states, times
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import at, batch, put, register, scalar, task
from agg_pipeline_tests.sql.test_isolation import broken_tick

VIEWS = "select viewname from pg_views where schemaname = 'public'"
GOOD, BAD = ["AAA", "ZZZ"], "MMM"


@pytest.fixture
def three_symbols(db: psycopg.Connection) -> psycopg.Connection:
    register(db, *GOOD, BAD)
    for symbol in (*GOOD, BAD):
        put(db, symbol, "08:00", 60)
    for now in ("08:30", "09:20"):
        assert not broken_tick(db, now)
    for symbol in (*GOOD, BAD):
        put(db, symbol, "09:00", 60)
    return db


@given(
    bars=st.lists(raw_rows, max_size=8, unique_by=lambda row: row["ts_utc"]),
    state=states,
    timeframe=st.sampled_from(TIMEFRAMES),
    ranges=st.lists(st.tuples(times, times), max_size=2),
)
@example(bars=[], state={"last_agg_bar_ts_utc": "infinity"}, timeframe="5m", ranges=[])
@example(bars=[], state={"hard_fail_streak": 2**31 - 1, "total_runs": 2**63 - 1}, timeframe="5m", ranges=[])
@example(bars=[], state={"lease_token": 2**63 - 1}, timeframe="1h", ranges=[("-infinity", "infinity")])
@example(bars=[], state={"agg_start_utc": "294276-12-31 23:59Z"}, timeframe="5m", ranges=[])
@settings(max_examples=max(4, settings.default.max_examples // 20), suppress_health_check=list(HealthCheck))
def test_no_row_of_one_symbol_reaches_another(
    three_symbols: psycopg.Connection,
    bars: list[dict[str, object]],
    state: dict[str, object],
    timeframe: str,
    ranges: list[tuple[str, str]],
) -> None:
    db = three_symbols
    with db.transaction(force_rollback=True):
        plant(db, BAD, bars, timeframe, state, ranges)
        # A plan may compute columns of rows that it filters out afterwards, so none of them may raise.
        for (view,) in db.execute(VIEWS).fetchall():
            db.execute(sql.SQL("select one::text from {} one").format(sql.Identifier(view)))
        for now in ("10:20", "12:20"):
            errors = broken_tick(db, now)
            assert {symbol for symbol, _ in errors} <= {BAD}, errors
            for error in errors.values():
                event(error["sqlstate"])
        counts = assert_equals_oracle(db, GOOD)
        assert [counts[symbol, "5m"] for symbol in GOOD] == [24, 24]

        # Whatever the database says of it, the package can read.
        health = TypeAdapter(list[TaskHealth]).validate_python(scalar(db, "select agg_health(null, %s)", [at("12:20")]))
        assert len(health) == 3 * len(TIMEFRAMES)
        assert not [one for one in health if one.symbol in GOOD and one.alarm == "error"]
        assert {(BAD, one) for _, one in errors} <= {
            (one.symbol, one.timeframe) for one in health if one.state != "current"
        }
        TypeAdapter(list[BadCursor]).validate_python(
            scalar(db, "select agg_mend_cursors(p_now_utc => %s)", [at("12:20")])
        )
        DueTasks.model_validate(scalar(db, "select agg_due_tasks('PROD', %s, null)", [at("12:20")]))
        asked = [task(BAD, name) for name in TIMEFRAMES]
        started = batch(db, "agg_start_batch", asked, p_now_utc=at("12:20"), p_owner="reader")
        TypeAdapter(list[StartResult]).validate_python(started)
