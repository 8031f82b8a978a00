"""agg_find_damage and agg_mend_cursors: each kind of damage is found where it is, and nothing else."""

import datetime as dt
from typing import Any

import psycopg
import pytest

from agg_pipeline.doctor import queries
from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    cursor,
    drop,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    start,
    state,
)

NOON = "2026-01-05T12:00"


@pytest.fixture
def built(db: psycopg.Connection) -> psycopg.Connection:
    """Six hours of EURUSD, built at every level, and nothing left to do."""
    register(db, "EURUSD")
    put(db, "EURUSD", "00:00", 360)
    settle(db, NOON)
    assert damage(db, "5m") == damage(db, "1h") == damage(db, "4h") == {}
    return db


def damage(db: psycopg.Connection, timeframe: str) -> dict[str, int]:
    return find(db, timeframe)["kinds"]  # type: ignore[no-any-return]


def find(db: psycopg.Connection, timeframe: str, begin: str = "00:00", end: str = NOON) -> dict[str, Any]:
    return scalar(db, "select agg_find_damage('EURUSD', %s, %s, %s)", [timeframe, at(begin), at(end)])  # type: ignore[no-any-return]


def bad_cursors(db: psycopg.Connection, *, apply: bool = False, now: str = NOON) -> list[tuple[str, ...]]:
    found = scalar(db, "select agg_mend_cursors(p_dry_run => %s, p_now_utc => %s)", [not apply, at(now)])
    return [(row["canonical_symbol"], row["timeframe"], row["kind"]) for row in found]


def forge(db: psycopg.Connection, assignment: str, timeframe: str = "5m", time: str = "02:00") -> None:
    """Change a stored bar as a predecessor might have left it, unseen by the log of touched windows."""
    db.execute(f"update derived_data_bars set {assignment} where timeframe = %s and ts_utc = %s", [timeframe, at(time)])
    db.execute("truncate agg_dirty_ranges")


@pytest.mark.parametrize(
    ("assignment", "kind"),
    [
        ("deleted_at = now()", "missing"),
        ("source_candles = 4, close = 1, high = 1", "half_built"),
        ("source_candles = null", "half_built"),
        ("high = high + 1", "different"),
        ("vwap = vwap * 0.8", "different"),
        ("is_partial = true", "different"),
        ("ts_utc = ts_utc + interval '2 minutes'", "off_grid"),
    ],
)
def test_each_kind_is_found_where_it_is(built: psycopg.Connection, assignment: str, kind: str) -> None:
    forge(built, assignment)
    found = find(built, "5m")
    expected = {kind: 1} | ({"missing": 1} if kind == "off_grid" else {})
    assert found["kinds"] == expected
    assert dt.datetime.fromisoformat(found["from_utc"]) == at("02:00")
    assert dt.datetime.fromisoformat(found["to_utc"]) == at("02:05")
    assert find(built, "5m", end="02:00")["kinds"] == {}
    assert find(built, "5m", begin="02:05")["kinds"] == {}


def test_a_bar_without_a_source_is_surplus(built: psycopg.Connection) -> None:
    drop(built, "EURUSD", "02:00", "02:05")
    built.execute("truncate agg_dirty_ranges")
    assert damage(built, "5m") == {"surplus": 1}
    assert damage(built, "1h") == {}, "judged against the bars of 5m as they are stored"


def test_a_null_counted_as_zero_is_distinguished_from_other_wrong_figures(built: psycopg.Connection) -> None:
    put(built, "EURUSD", "02:00", 1, vwap=None)
    settle(built, NOON)
    assert damage(built, "5m") == {}
    forge(built, "vwap = vwap * 0.8")
    forge(built, "vwap = vwap * 0.8", time="02:05")
    assert damage(built, "5m") == {"null_as_zero": 1, "different": 1}


def test_the_last_bits_of_a_sum_are_no_damage(built: psycopg.Connection) -> None:
    forge(built, "vwap = vwap * (1 + 3e-16), vol = vol * (1 + 3e-16)")
    assert damage(built, "5m") == {}


def test_only_built_windows_are_evaluated(built: psycopg.Connection) -> None:
    put(built, "EURUSD", "06:00", 60)
    assert damage(built, "5m") == {}, "the cursor has not passed them"
    alter_task(built, "EURUSD", "5m", last_agg_bar_ts_utc=at("07:00"))
    assert damage(built, "5m") == {"missing": 12}
    alter_task(built, "EURUSD", "5m", agg_start_utc=at("06:30"))
    assert damage(built, "5m") == {"missing": 6}


@pytest.mark.nightly
def test_a_long_history_is_evaluated_in_several_calls(built: psycopg.Connection) -> None:
    put(built, "EURUSD", "2026-01-06T00:00", 60 * 24 * 18)
    settle(built, "2026-01-25T00:00", max_windows=10_000)
    forge(built, "high = high + 1")
    forge(built, "high = high + 1", time="2026-01-23T23:55")
    first = find(built, "5m", end="2026-01-25T00:00")
    assert (first["judged"], first["kinds"], first["continue"]) == (5000, {"different": 1}, True)
    rest = find(built, "5m", begin=first["next_from_utc"].removesuffix("+00:00"), end="2026-01-25T00:00")
    assert (rest["kinds"], rest["continue"]) == ({"different": 1}, False)
    assert first["judged"] + rest["judged"] == 72 + 12 * 24 * 18


def test_an_unknown_task_or_empty_range_is_refused(built: psycopg.Connection) -> None:
    with refused(built, "AG002", "there is no task EURUSD/7m", "Tasks of EURUSD: 5m, 15m, 1h, 4h, 1d"):
        find(built, "7m")
    with refused(built, "AG003", "is no range of time of EURUSD/5m"):
        find(built, "5m", begin="03:00", end="02:00")


# ---- cursors


def test_a_sound_database_has_no_bad_cursor(built: psycopg.Connection) -> None:
    assert bad_cursors(built) == []
    drop(built, "EURUSD", "00:00", "06:00")
    settle(built, NOON)
    alter_task(built, "EURUSD", "5m", last_agg_bar_ts_utc=None)
    assert ("EURUSD", "5m", "frozen") not in bad_cursors(built), "it has not begun"


def test_a_cursor_in_the_future_is_set_to_the_window_of_the_newest_bar(built: psycopg.Connection) -> None:
    alter_task(built, "EURUSD", "5m", last_agg_bar_ts_utc=at("09:00"))
    alter_task(built, "EURUSD", "1h", last_agg_bar_ts_utc=at("09:00"))
    assert bad_cursors(built) == [("EURUSD", "1h", "future"), ("EURUSD", "5m", "future")]
    assert cursor(built, "EURUSD", "5m") == "09:00", "only planned"
    bad_cursors(built, apply=True)
    assert (cursor(built, "EURUSD", "5m"), cursor(built, "EURUSD", "1h")) == ("05:55", "05:00")
    assert bad_cursors(built) == []
    assert settle(built, NOON) > 0
    assert (cursor(built, "EURUSD", "5m"), cursor(built, "EURUSD", "1h")) == ("06:00", "06:00")


def test_a_cursor_of_a_task_without_data_goes_back_to_the_start(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    alter_task(db, "EURUSD", "5m", last_agg_bar_ts_utc=at("09:00"))
    assert bad_cursors(db, apply=True) == [("EURUSD", "5m", "future")]
    assert cursor(db, "EURUSD", "5m") is None


def test_a_cursor_off_the_grid_is_set_onto_it(built: psycopg.Connection) -> None:
    alter_task(built, "EURUSD", "5m", last_agg_bar_ts_utc=at("05:32"))
    assert bad_cursors(built, apply=True) == [("EURUSD", "5m", "off_grid")]
    assert cursor(built, "EURUSD", "5m") == "05:30"


def test_a_frozen_cursor_is_listed_and_not_changed(built: psycopg.Connection) -> None:
    put(built, "EURUSD", "09:00", 60)
    assert bad_cursors(built, apply=True)[-1] == ("EURUSD", "5m", "frozen")
    assert cursor(built, "EURUSD", "5m") == "06:00"
    settle(built, NOON)
    assert bad_cursors(built) == []


def test_a_task_that_waits_for_its_source_is_not_frozen(built: psycopg.Connection) -> None:
    put(built, "EURUSD", "06:00", 180)
    assert bad_cursors(built) == []


def test_tasks_left_running_are_freed_and_leased_ones_are_not(built: psycopg.Connection) -> None:
    alter_task(built, "EURUSD", "5m", status="running", running_started_at_utc=at("10:00"))
    start(built, "EURUSD", "1h", NOON, owner="run")
    alter_task(built, "EURUSD", "1h", last_agg_bar_ts_utc=at("09:00"))
    assert bad_cursors(built, apply=True) == [("EURUSD", "1h", "future"), ("EURUSD", "5m", "stuck")]
    assert state(built, "EURUSD", "5m")["status"] == "idle"
    assert (state(built, "EURUSD", "1h")["status"], cursor(built, "EURUSD", "1h")) == ("running", "09:00")


# ---- the doctor


def test_doctor_and_database_reject_the_same_raw_rows(db: psycopg.Connection) -> None:
    """doctor has its own copy of the rule, for databases without the view."""
    register(db, "EURUSD")
    put(db, "EURUSD", "00:00", 20)
    wrong = [
        "open = null", "high = 'Infinity'", "low = 'NaN'", "close = '-Infinity'", "high = low - 1", "open = high + 1",
        "close = low - 1", "vol = -1", "vol = 'NaN'", "vol = 'Infinity'", "vwap = 'NaN'", "trade_count = -1",
        "ts_utc = ts_utc + interval '30 seconds'", "vol = null", "vol = 0",
    ]  # fmt: skip
    for n, assignment in enumerate(wrong):
        db.execute(f"update data_bars set {assignment} where ts_utc = %s", [at("00:00") + dt.timedelta(minutes=n)])
    own = rows(
        db,
        "select reject_reason as reason, count(*) as rows from agg_source_bars where reject_reason is not null "
        "group by 1 order by 1",
    )
    found = db.execute(queries.INVALID_ROWS, {"since": at("2020-01-01T00:00")}).fetchall()
    assert sorted((reason, count) for *_, reason, count in found) == [(row["reason"], row["rows"]) for row in own]
    assert sum(row["rows"] for row in own) == 11
