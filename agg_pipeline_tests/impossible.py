"""Rows, states and ranges of one symbol that make no sense, and how to plant them in a database."""

import psycopg
from hypothesis import strategies as st
from psycopg import sql

from agg_pipeline.market.timeframes import LADDER

TIMEFRAMES = [timeframe.value for timeframe in LADDER]
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


def plant(
    db: psycopg.Connection,
    symbol: str,
    bars: list[dict[str, object]],
    timeframe: str,
    state: dict[str, object],
    ranges: list[tuple[str, str]],
) -> None:
    """Raw bars, the state of one task and invalidations of its windows, past all of our own checks."""
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
            [symbol, *row.values()],
        )
    if state:
        changes = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in state)
        query = "update data_agg_state set {} where canonical_symbol = %s and timeframe = %s"
        db.execute(sql.SQL(query).format(changes), [*state.values(), symbol, timeframe])  # type: ignore[arg-type]
    for begin, end in ranges:
        db.execute(
            """insert into agg_dirty_ranges (canonical_symbol, timeframe, from_utc, to_utc)
               select %s, %s, %s::timestamptz, %s::timestamptz where %s::timestamptz < %s::timestamptz""",
            [symbol, timeframe, begin, end, begin, end],
        )
