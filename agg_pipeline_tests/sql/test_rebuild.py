"""Rebuilds by an operator: invalidated for the next tick, planned, done; and reads of earlier revisions."""

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import (
    Row,
    at,
    catch_up,
    dirty,
    due,
    history,
    live,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    start,
    tick,
    times,
)

ALL = ("5m", "15m", "1h", "4h", "1d")
NEXT_DAY = "2026-01-06T12:00"


@pytest.fixture
def day(db: psycopg.Connection) -> psycopg.Connection:
    """A whole day of bars, built at every level."""
    register(db, "EURUSD")
    put(db, "EURUSD", "00:00", 24 * 60)
    settle(db, NEXT_DAY)
    return db


def rebuild(db: psycopg.Connection, begin: str, end: str, timeframe: str = "5m", **named: object) -> Row:
    """``agg_rebuild_range`` of EURUSD; it writes unless it is a dry run."""
    named = {"p_dry_run": False, "p_now_utc": at(NEXT_DAY), **named}
    return scalar(
        db,
        f"""select public.agg_rebuild_range('EURUSD', %(tf)s, %(begin)s, %(end)s,
                   {", ".join(f"{name} => %({name})s" for name in named)})""",
        {"tf": timeframe, "begin": at(begin), "end": at(end), **named},
    )


def damage(db: psycopg.Connection, timeframe: str = "5m", ts: str = "10:05") -> None:
    """A wrong high, as no source explains it; the note that it changed is taken away."""
    db.execute("update derived_data_bars set high = 9999 where timeframe = %s and ts_utc = %s", [timeframe, at(ts)])
    db.execute("delete from agg_dirty_ranges")


def figures(result: Row) -> dict[str, int]:
    return {key: result[key] for key in ("written", "revised", "retired", "unchanged")}


def all_rows(db: psycopg.Connection) -> list[Row]:
    return rows(db, "select xmin::text, ctid::text, * from derived_data_bars order by id")


# ---- rebuild


def test_a_rebuild_corrects_a_bar_and_keeps_its_old_row(day: psycopg.Connection) -> None:
    damage(day)
    result = rebuild(day, "10:00", "11:00")
    assert figures(result) == {"written": 1, "revised": 1, "retired": 0, "unchanged": 11 + 4 + 1 + 1 + 1}
    assert [row["high"] for row in rows(day, "select high from derived_data_bars where revision > 1")] == [711]
    assert assert_equals_oracle(day)["EURUSD", "5m"] == 288
    assert due(day, NEXT_DAY) == []


def test_a_rebuild_goes_up_through_the_levels(day: psycopg.Connection) -> None:
    """This change of the source invalidated nothing: only the rebuild finds it."""
    day.execute("update data_bars set high = 9999 where ts_utc = %s", [at("10:07")])
    day.execute("delete from agg_dirty_ranges")
    result = rebuild(day, "10:05", "10:10")
    assert {timeframe: result["levels"][timeframe]["revised"] for timeframe in ALL} == dict.fromkeys(ALL, 1)
    first, *rest = result["changes"]
    assert (first["timeframe"], first["change"], first["fields"]) == ("5m", "revised", {"high": [711, 9999]})
    assert len(rest) == 4
    assert live(day, "EURUSD", "1d")[0]["high"] == 9999
    assert_equals_oracle(day)


def test_a_rebuild_without_a_change_writes_nothing(day: psycopg.Connection) -> None:
    before = all_rows(day)
    assert figures(rebuild(day, "00:00", "2026-01-06T00:00")) == {
        "written": 0, "revised": 0, "retired": 0, "unchanged": 288 + 96 + 24 + 6 + 1}  # fmt: skip
    assert all_rows(day) == before
    assert dirty(day, "EURUSD", "5m") == []


def test_the_plan_is_what_then_happens_and_writes_nothing(day: psycopg.Connection) -> None:
    damage(day)
    day.execute("update data_bars set close = null where ts_utc >= %s and ts_utc < %s", [at("20:00"), at("20:03")])
    before, log = all_rows(day), dirty(day, "EURUSD", "5m")
    assert log
    plan = rebuild(day, "00:00", "2026-01-06T00:00", p_dry_run=True)
    assert (all_rows(day), dirty(day, "EURUSD", "5m")) == (before, log)
    done = rebuild(day, "00:00", "2026-01-06T00:00")
    assert plan | {"dry_run": False} == done
    assert [(c["timeframe"], c["ts_utc"][11:16], c["change"]) for c in plan["changes"]][:2] == [
        ("5m", "10:05", "revised"),
        ("5m", "20:00", "retired"),
    ]
    assert_equals_oracle(day)


def test_it_only_plans_by_default(day: psycopg.Connection) -> None:
    damage(day)
    result = scalar(
        day, "select public.agg_rebuild_range('EURUSD', '5m', %s, %s)", [at("00:00"), at("2026-01-06T00:00")]
    )
    assert (result["dry_run"], result["revised"]) == (True, 1)
    assert [revision for revision, *_ in history(day, "EURUSD", "5m")] == [1] * 288


def test_the_range_is_widened_to_whole_windows_of_each_level(day: psycopg.Connection) -> None:
    damage(day, "5m", "10:05")
    damage(day, "1h", "10:00")
    result = rebuild(day, "10:07", "10:08")
    spans = {tf: (level["from_utc"][11:16], level["to_utc"][11:16]) for tf, level in result["levels"].items()}
    assert spans == {
        "5m": ("10:05", "10:10"), "15m": ("10:00", "10:15"), "1h": ("10:00", "11:00"), "4h": ("08:00", "12:00"),
        "1d": ("00:00", "00:00")}  # fmt: skip
    assert result["revised"] == 2


def test_it_never_goes_beyond_the_cursor_nor_before_the_start(db: psycopg.Connection) -> None:
    register(db, "EURUSD", start="02:00")
    put(db, "EURUSD", "00:00", 24 * 60)
    catch_up(db, "EURUSD", "5m", NEXT_DAY, max_windows=12)
    db.execute("delete from derived_data_bars")
    assert rebuild(db, "2026-01-04T00:00", "2026-01-07T00:00")["levels"]["5m"]["written"] == 12
    assert times(db, "EURUSD", "5m") == [f"02:{minute:02}" for minute in range(0, 60, 5)]
    assert live(db, "EURUSD", "1h") == []


def test_a_range_with_gaps_loses_nothing(day: psycopg.Connection) -> None:
    """The predecessor's stopped at the first empty window and left the rest of the range deleted."""
    put(day, "EURUSD", "2026-01-12T00:00", 24 * 60)
    settle(day, "2026-01-13T12:00")
    before = all_rows(day)
    result = rebuild(day, "00:00", "2026-01-13T00:00", p_now_utc=at("2026-01-13T12:00"))
    assert figures(result)["written"] == 0
    assert result["unchanged"] == 2 * (288 + 96 + 24 + 6 + 1)
    assert all_rows(day) == before


@pytest.mark.nightly
def test_a_long_range_takes_several_calls_cut_between_days(db: psycopg.Connection) -> None:
    register(db, "EURUSD")
    put(db, "EURUSD", "00:00", 20 * 24 * 60)
    while tick(db, "2026-01-26T12:00", max_windows=10_000):
        pass
    db.execute("update derived_data_bars set high = high + 1 where timeframe = '5m'")
    calls, begin = [], at("00:00")
    while not calls or calls[-1]["continue"]:
        calls.append(rebuild(db, str(begin)[:19], "2026-01-25T00:00", p_now_utc=at("2026-01-26T12:00")))
        begin = at(calls[-1]["next_from_utc"][:19])
    assert [call["next_from_utc"][:10] for call in calls] == ["2026-01-22", "2026-01-25"]
    assert [call["levels"]["5m"]["revised"] for call in calls] == [17 * 288, 3 * 288]
    assert all(len(call["changes"]) == 100 for call in calls)
    assert max(revision for revision, *_ in history(db, "EURUSD", "1d")) == 1
    assert_equals_oracle(db)


def test_a_given_version_restamps_the_bars_of_the_timeframe_and_no_other(day: psycopg.Connection) -> None:
    result = rebuild(day, "10:00", "11:00", p_derivation_version=2)
    assert {tf: result["levels"][tf]["revised"] for tf in ALL} == {"5m": 12, "15m": 0, "1h": 0, "4h": 0, "1d": 0}
    assert [row["derivation_version"] for row in live(day, "EURUSD", "5m")].count(2) == 12
    assert rebuild(day, "10:00", "11:00", p_derivation_version=2)["written"] == 0
    damage(day, ts="10:05")
    assert rebuild(day, "10:00", "11:00")["written"] == 1
    versions = {row["ts_utc"]: (row["derivation_version"], row["revision"]) for row in live(day, "EURUSD", "5m")}
    assert versions[at("10:05")] == (2, 3), "without a version a bar keeps its own"


def test_a_retired_bar_that_comes_back_keeps_its_version_and_counts_on(day: psycopg.Connection) -> None:
    rebuild(day, "10:00", "10:05", p_derivation_version=7)
    day.execute("update derived_data_bars set deleted_at = now() where ts_utc = %s and timeframe = '5m'", [at("10:00")])
    rebuild(day, "10:00", "10:05")
    (bar,) = [row for row in live(day, "EURUSD", "5m") if row["ts_utc"] == at("10:00")]
    assert (bar["derivation_version"], bar["revision"]) == (7, 3)


def test_a_leased_task_is_not_overwritten(day: psycopg.Connection) -> None:
    damage(day)
    start(day, "EURUSD", "1h", NEXT_DAY, owner="run 7", seconds=900)
    with refused(day, "AG001", r"EURUSD/1h is leased by run 7 until 2026-01-06 12:15", "try again"):
        rebuild(day, "10:00", "11:00")
    assert rebuild(day, "10:00", "11:00", p_dry_run=True)["revised"] == 1
    assert rebuild(day, "10:00", "11:00", "4h")["written"] == 0, "1h lies below it"
    assert rebuild(day, "10:00", "11:00", p_now_utc=at("2026-01-06T12:16"))["revised"] == 1, "a stale lease is nobody's"


def test_a_rebuild_waits_for_a_catch_up_that_is_at_work(stack: Stack, clean: psycopg.Connection) -> None:
    register(clean, "EURUSD")
    put(clean, "EURUSD", "00:00", 60)
    with psycopg.connect(stack.dsn) as worker:
        catch_up(worker, "EURUSD", "5m", NEXT_DAY)
        clean.execute("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            rebuild(clean, "00:00", "01:00")


@pytest.mark.parametrize(
    ("symbol", "timeframe", "begin", "end", "sqlstate", "match", "hint"),
    [
        ("NOPE", "5m", "00:00", "01:00", "AG002", "there is no task NOPE/5m", "core_asset_registry_all"),
        ("EURUSD", "7m", "00:00", "01:00", "AG002", "no task EURUSD/7m", "Tasks of EURUSD: 5m, 15m, 1h, 4h, 1d."),
        ("EURUSD", "5m", "01:00", "00:00", "AG003", "is no range of time of EURUSD/5m", "p_to_utc is the later one"),
        ("EURUSD", "5m", "01:00", "01:00", "AG003", "is no range of time", ""),
        ("EURUSD", "5m", None, "01:00", "AG003", "null to 2026-01-05 01:00:00", ""),
        ("EURUSD", "5m", "00:00", "infinity", "AG003", "to infinity is no range", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("function", ["agg_rebuild_range", "agg_invalidate_range"])
def test_an_unknown_task_or_empty_range_is_refused(
    db: psycopg.Connection,
    function: str,
    symbol: str,
    timeframe: str,
    begin: str | None,
    end: str,
    sqlstate: str,
    match: str,
    hint: str,
) -> None:
    register(db, "EURUSD")
    last = "" if function == "agg_rebuild_range" else ", 'why'"
    with refused(db, sqlstate, match, hint):
        db.execute(
            f"select public.{function}(%s, %s, %s, %s{last})",
            [symbol, timeframe, begin and at(begin), end if end == "infinity" else at(end)],
        )


def test_a_version_below_one_is_refused(day: psycopg.Connection) -> None:
    with refused(day, "AG003", "p_derivation_version is 0", "keep the version"):
        rebuild(day, "00:00", "01:00", p_derivation_version=0)


# ---- invalidate


def invalidate(db: psycopg.Connection, begin: str, end: str, timeframe: str = "5m") -> Row:
    return scalar(
        db,
        "select public.agg_invalidate_range('EURUSD', %s, %s, %s, 'vendor notice 17')",
        [timeframe, at(begin), at(end)],
    )


def test_marked_windows_are_built_again_by_the_next_tick(day: psycopg.Connection) -> None:
    damage(day)
    assert invalidate(day, "10:07", "10:31") == {"success": True, "windows": 6}
    assert dirty(day, "EURUSD", "5m") == [("10:05", "10:35")]
    assert scalar(day, "select reason from agg_dirty_ranges") == "vendor notice 17"
    result = next(result for result in tick(day, NEXT_DAY) if result["timeframe"] == "5m")
    assert (result["windows_redone"], result["bars_revised"], result["bars_unchanged"]) == (6, 1, 5)
    settle(day, NEXT_DAY)
    assert_equals_oracle(day)


def test_marked_windows_that_hold_nothing_cost_no_windows(day: psycopg.Connection) -> None:
    """Half a year without bars between two days with some: max_windows counts what there is to build."""
    put(day, "EURUSD", "2026-07-06T00:00", 60)
    settle(day, "2026-07-06T12:00")
    assert invalidate(day, "23:00", "2026-07-06T12:00")["windows"] == 52_284
    redone = []
    while ("EURUSD", "5m") in due(day, "2026-07-06T12:00"):
        result = catch_up(day, "EURUSD", "5m", "2026-07-06T12:00", max_windows=10)
        redone.append((result["windows_redone"], result["continue"]))
    assert redone == [(10, True), (10, True), (4, False)]


# ---- bars as of


def as_of(db: psycopg.Connection, when: object, timeframe: str = "5m") -> list[tuple[int, float]]:
    return db.execute(
        "select revision, high from public.bars_as_of('EURUSD', %s, %s, %s, %s)",
        [timeframe, at("10:00"), at("10:05"), when],
    ).fetchall()


def test_earlier_revisions_stay_readable(stack: Stack, clean: psycopg.Connection) -> None:
    def now() -> object:
        return scalar(clean, "select clock_timestamp()")

    register(clean, "EURUSD")
    before = now()
    put(clean, "EURUSD", "10:00", 5)
    settle(clean, "10:05")
    first = now()
    put(clean, "EURUSD", "10:02", high=500)
    settle(clean, "10:10")
    second = now()
    clean.execute("delete from data_bars")
    settle(clean, "10:10")
    third = now()
    put(clean, "EURUSD", "10:00", 5)
    settle(clean, "10:10")
    assert [as_of(clean, when) for when in (before, first, second, third, now())] == [
        [], [(1, 106)], [(2, 500)], [], [(3, 106)]]  # fmt: skip


def test_it_knows_one_row_a_bar_in_order_of_time_within_the_range(day: psycopg.Connection) -> None:
    damage(day)
    rebuild(day, "10:00", "11:00")
    found = day.execute(
        "select ts_utc from public.bars_as_of('EURUSD', '5m', %s, %s, 'infinity')", [at("09:55"), at("10:15")]
    ).fetchall()
    assert [ts for (ts,) in found] == [at("09:55"), at("10:00"), at("10:05"), at("10:10")]
