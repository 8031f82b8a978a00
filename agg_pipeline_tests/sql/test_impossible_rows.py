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
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import at, batch, put, register, scalar, task
from agg_pipeline_tests.sql.test_isolation import broken_tick

GOOD, BAD = ["AAA", "ZZZ"], "MMM"
TIMEFRAMES = ["5m", "15m", "1h", "4h", "1d"]
INTEGERS = [-(2**31), -1, 0, 1, 2**31 - 1]
BIGINTS = [-(2**63), -1, 0, 2**63 - 1]

floats = st.one_of(st.none(), st.floats(), st.sampled_from([1e30, -1e30, 1.1e30, 1e308, -1e308, 5e-324, 1e-12, -0.0]))
times = st.sampled_from(
    ["infinity", "-infinity", "4713-01-01 00:00Z BC", "294276-12-31 23:59Z", "1899-12-31 23:59Z", "1900-01-01Z",
     "2199-12-31 23:59Z", "2200-01-01Z", "2026-01-05 08:07:30Z", "2026-01-05 10:00Z", "2026-01-05 23:00Z"]
)  # fmt: skip
raw_rows = st.fixed_dictionaries(
    {name: floats for name in ("open", "high", "low", "close", "vol", "vwap")}
    | {"trade_count": st.one_of(st.none(), st.sampled_from(INTEGERS)), "is_partial": st.booleans()}
    | {"ts_utc": st.one_of(times, st.integers(0, 119).map(lambda n: f"2026-01-05 {8 + n // 60}:{n % 60:02}Z"))}
)
states = st.fixed_dictionaries(
    {},
    optional={name: times for name in (
        "last_agg_bar_ts_utc", "agg_start_utc", "last_attempted_at_utc", "running_started_at_utc",
        "last_successful_at_utc", "next_run_at", "lease_expires_at", "success_cursor_utc", "paused_at_utc",
        "paused_until_utc")}
    | {name: st.sampled_from(INTEGERS) for name in (
        "hard_fail_streak", "transient_streak", "stale_streak", "stall_streak", "aggregation_delay_seconds",
        "late_deadline_seconds", "lease_seconds", "task_priority", "run_interval_minutes")}
    | {name: st.sampled_from(BIGINTS) for name in (
        "lease_token", "finished_token", "total_runs", "total_bars_created", "total_bars_quality_poor")}
    | {"status": st.sampled_from(["idle", "running", "hard_failed", "disabled", "on holiday", ""]),
       "status_before": st.sampled_from(["idle", "running", "no status"]),
       "lease_owner": st.sampled_from(["", "nobody"]), "enabled": st.booleans(), "is_mandatory": st.booleans(),
       "last_error": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)},
)  # fmt: skip


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
        for row in bars:
            columns = sql.SQL(", ").join(map(sql.Identifier, row))
            changes = sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in row if name != "ts_utc"
            )
            db.execute(
                sql.SQL(
                    "insert into data_bars (canonical_symbol, timeframe, source, {}) values (%s, '1m', 'test', {}) "
                    "on conflict (canonical_symbol, timeframe, ts_utc) do update set {}"
                ).format(columns, sql.SQL(", ").join(sql.Placeholder() for _ in row), changes),
                [BAD, *row.values()],
            )
        if state:
            changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in state)
            query = "update data_agg_state set {} where canonical_symbol = %s and timeframe = %s"
            db.execute(sql.SQL(query).format(changes), [*state.values(), BAD, timeframe])  # type: ignore[arg-type]
        for begin, end in ranges:
            db.execute(
                """insert into agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
                   select %s, %s, %s::timestamptz, %s::timestamptz where %s::timestamptz < %s::timestamptz""",
                [BAD, timeframe, begin, end, begin, end],
            )
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
