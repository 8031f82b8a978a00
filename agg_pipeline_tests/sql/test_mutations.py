"""Mutation test: a scenario that passes with the real functions must fail with each broken rule."""

from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sessions import follow
from agg_pipeline_tests.sql.helpers import (
    at,
    catch_up,
    copied_database,
    due,
    edited_schema,
    live,
    put,
    register,
    rows,
    scalar,
    settle,
    times,
)

# the rule that is broken: (file of supabase/schemas, text in it, the text that replaces it)
MUTATIONS = {
    "close is that of the row that came last": ("compute",
        "(array_agg(b.close order by b.ts_utc) filter (where b.valid))[count(*) filter (where b.valid)]",
        "(array_agg(b.close order by b.vol desc) filter (where b.valid))[count(*) filter (where b.valid)]"),
    "a missing vwap counts as 0": ("compute",
        "sum(b.vol order by b.ts_utc) filter (where b.valid and b.vwap is not null) as weight",
        "sum(b.vol order by b.ts_utc) filter (where b.valid) as weight"),
    "a missing trade count counts as 0": ("compute",
        "sum(b.trade_count) filter (where b.valid)", "sum(coalesce(b.trade_count, 0)) filter (where b.valid)"),
    "is_partial is not handed up": ("compute",
        "coalesce(bool_or(b.is_partial) filter (where b.valid), false)", "false"),
    "invalid rows count as found": ("compute",
        "(count(*) filter (where b.valid))::integer as found", "count(*)::integer as found"),
    "a third of the bars is enough": ("compute",
        "when e.inside * 10 > e.expected * 5 then -1", "when e.inside * 10 > e.expected * 3 then -1"),
    "four of five is complete": ("compute",
        "when e.inside >= e.expected then 2", "when e.inside + 1 >= e.expected then 2"),
    "bars outside of the session make up for missing ones": ("compute",
        "and s.reject_reason is null and not h.closed @> s.ts_utc)", "and s.reject_reason is null)"),
    "where nothing is expected nothing is stored": ("compute",
        "when e.expected = 0 then case when b.found > 0 then 2 end", "when e.expected = 0 then null"),
    "nobody follows a calendar": ("compute", "where work.windows is not null", "where false"),
    "a slot that is open for half of it is closed": ("slots",
        "date_bin(slot.length, s.open_utc, slot.origin_utc),",
        "date_bin(slot.length, s.open_utc - interval '1 microsecond', slot.origin_utc) + slot.length,"),
    "sessions are looked for on the day only": ("slots",
        "s.open_utc > r.from_utc - interval '168 hours'", "s.open_utc > r.from_utc - interval '24 hours'"),
    "a calendar holds from the beginning": ("trading_calendars",
        "select c.canonical_symbol, c.trading_calendar, c.from_utc,",
        "select c.canonical_symbol, c.trading_calendar, '-infinity'::timestamptz,"),
    "bars outside of the session complete a window": ("forward",
        "bar.source_candles - bar.off_session >= bar.expected_candles", "bar.source_candles >= bar.expected_candles"),
    "a negative volume is a volume": ("source_bars",
        "when b.vol < 0 or b.vol >=", "when b.vol >="),
    "a close outside the bar is a bar": ("source_bars",
        "when b.close not between b.low and b.high then 'close outside low to high'", ""),
    "updates are logged where rows are, not where they were": ("dirty_ranges",
        "ts_utc from old_rows\n", "ts_utc from old_rows where false\n"),
    "so is the update of one row": ("dirty_ranges", "from old_rows b);", "from old_rows b where false);"),
    "the insert of one row is not logged": ("dirty_ranges", "if seen = 0 then", "if seen < 2 then"),
    "deletions are not logged": ("dirty_ranges",
        "delete on public.data_bars\n  referencing old table as changed for each statement",
        "delete on public.data_bars\n  referencing old table as changed for each statement when (false)"),
    "a change of derived bars is not handed up": ("dirty_ranges",
        "insert on public.derived_data_bars\n  referencing new table as changed for each statement",
        "insert on public.derived_data_bars\n  referencing new table as changed for each statement when (false)"),
    "bars far apart mark all between them": ("dirty_ranges",
        "range_agg(tstzrange(w.from_utc, w.from_utc + w.length)) as runs",
        "tstzmultirange(tstzrange(min(w.from_utc), max(w.from_utc + w.length))) as runs"),
    "what max_windows leaves is forgotten": ("catch_up",
        "select canonical_symbol, timeframe, from_utc, to_utc from unnest(later);",
        "select canonical_symbol, timeframe, from_utc, to_utc from unnest(later) where false;"),
    "only half of each touched run is built again": ("catch_up",
        "m.timeframe, lower(run), upper(run))::public.agg_range",
        "m.timeframe, lower(run), lower(run) + interval '5 min')::public.agg_range"),
    "the log is kept after it was read": ("catch_up",
        "delete from public.agg_dirty_ranges d\n", "update public.agg_dirty_ranges d set reason = 'read'\n"),
    "the cursor goes one window too far": ("catch_up",
        "greatest(s.last_agg_bar_ts_utc, f.to_utc)", "greatest(s.last_agg_bar_ts_utc, f.to_utc + interval '5 min')"),
    "the level gate is open": ("forward",
        "and (t.source_cursor_utc is null\n", "and (true or t.source_cursor_utc is null\n"),
    "a window is built before it has ended": ("forward",
        "least(date_bin(t.length, p_now_utc, t.origin_utc),",
        "least(date_bin(t.length, p_now_utc, t.origin_utc) + t.length,"),
    "an incomplete window is built at once": ("forward",
        "p_now_utc >= bar.ts_utc + t.length + t.deadline\n", "p_now_utc >= bar.ts_utc + t.length\n"),
    "a bar that lost its source stays": ("store",
        "when f.quality_score is null then 'retired'", "when f.quality_score is null then 'unchanged'"),
    "a revision counts from 1 again": ("store",
        "1 + coalesce(v.live_revision, last.revision, 0)", "1 + coalesce(v.live_revision, 0)"),
    "a correction overwrites": ("store",
        "update public.derived_data_bars d set deleted_at = stamp\n", "delete from public.derived_data_bars d\n"),
    "what did not change is written again": ("store",
        "             else 'unchanged'\n", "             else 'revised'\n"),
    "a changed trade count is no change": ("store",
        "l.trade_count::bigint, l.is_partial", "f.trade_count, l.is_partial"),
}  # fmt: skip

# Those of MUTATIONS that the database itself refuses with an SQL error before a difference shows.
CRASHING: frozenset[str] = frozenset()

SAMPLE = [
    "close is that of the row that came last",
    "the level gate is open",
]


@pytest.fixture
def mutant(stack: Stack, migrated: str) -> Iterator[psycopg.Connection]:
    with (
        copied_database(stack.dsn, "mutant", of="all_migrations") as dsn,
        psycopg.connect(dsn, autocommit=True) as db,
    ):
        yield db


def test_the_real_functions_pass(mutant: psycopg.Connection) -> None:
    gauntlet(mutant)


@pytest.mark.parametrize("name", sampled(MUTATIONS, SAMPLE))
def test_a_broken_rule_is_caught(mutant: psycopg.Connection, name: str) -> None:
    topic, right, wrong = MUTATIONS[name]
    broken = edited_schema(topic, right, wrong)
    with mutant.transaction():
        mutant.execute(broken.encode())
    with pytest.raises((AssertionError, psycopg.DatabaseError)) as caught:
        gauntlet(mutant)
    # A mutant that ends with an SQL error shows that its text cannot run, not that a wrong bar would be noticed.
    outcome = "crashed" if isinstance(caught.value, psycopg.DatabaseError) else "caught by a difference"
    assert outcome == ("crashed" if name in CRASHING else "caught by a difference"), caught.value


def gauntlet(db: psycopg.Connection) -> None:
    """Two days in the life of three assets. Every step is followed by a look at what must be there, or must not."""
    register(db, "EURUSD", "HOLES")
    register(db, "DAX", base="5m")

    # Live, in small steps: nothing before its end, complete windows at once, incomplete ones when they are passed by.
    put(db, "EURUSD", "00:00", 4)
    put(db, "EURUSD", "00:05", 3)
    settle(db, "00:08")
    assert times(db, "EURUSD", "5m") == ["00:00"], "passed by"
    put(db, "EURUSD", "00:08", 2)
    assert catch_up(db, "EURUSD", "5m", "00:09")["bars_created"] == 0, "it has not ended"
    settle(db, "00:10")
    assert times(db, "EURUSD", "5m") == ["00:00", "00:05"]
    put(db, "EURUSD", "00:10", 4)
    settle(db, "00:15")
    assert (times(db, "EURUSD", "5m"), times(db, "EURUSD", "15m")) == (["00:00", "00:05"], []), "the deadline is later"
    settle(db, "00:45")
    assert (times(db, "EURUSD", "5m")[-1], times(db, "EURUSD", "15m")) == ("00:10", ["00:00"])

    # The level gate: minutes of a whole hour arrive late; the hour waits for its 5m bars, whoever asks first.
    put(db, "EURUSD", "01:00", 60)
    assert catch_up(db, "EURUSD", "5m", "02:01", max_windows=9)["bars_created"] == 9
    assert catch_up(db, "EURUSD", "1h", "03:30", max_windows=9)["bars_created"] == 0
    settle(db, "03:30")
    assert times(db, "EURUSD", "1h") == ["01:00"]

    # Everything that a row can be: unknown, partial, invalid.
    put(db, "HOLES", "00:00", 3, vol=None)
    put(db, "HOLES", "00:05", 5, vwap=None)
    put(db, "HOLES", "00:06", 1, vwap=7.0, vol=3.0)
    put(db, "HOLES", "00:10", 5, trade_count=None)
    put(db, "HOLES", "00:15", 5, is_partial=True)
    put(db, "HOLES", "00:20", 5, high=1.0, low=2.0, open=1.5, close=1.5)
    put(db, "HOLES", "00:25", 2)
    put(db, "HOLES", "00:27", 3, close=5000.0)
    put(db, "HOLES", "00:30", 5, vol=float("nan"))
    put(db, "HOLES", "00:50", 3)
    put(db, "HOLES", "00:52", 2, vol=-1.0)
    put(db, "HOLES", "00:35", 2)
    put(db, "HOLES", "00:40", 4)
    put(db, "HOLES", "00:45", 5, vol=20.0)
    put(db, "HOLES", "00:48", 1, vol=90.0)
    put(db, "DAX", "00:00", 12 * 8, "5m", trade_count=None)
    put(db, "DAX", "10:00", 5, "5m")
    settle(db, "13:00")
    assert_equals_oracle(db)

    # A second look changes nothing, not even a row version.
    everything = "select xmin::text, ctid::text, updated_at from derived_data_bars order by id"
    before = rows(db, everything)
    for tf in ("5m", "15m", "1h"):
        db.execute("select agg_invalidate_range('EURUSD', %s, %s, %s, 'look again')", [tf, at("00:00"), at("02:00")])
    settle(db, "13:00")
    assert rows(db, everything) == before
    waiting = """select count(*) from agg_dirty_ranges d join agg_tasks t using (canonical_symbol, timeframe)
                  where greatest(d.from_utc, t.first_window) < least(d.to_utc, t.cursor_utc)"""
    assert scalar(db, waiting) == 0

    # Corrections: every level, few windows at a time, and of a kind that only one column shows.
    db.execute("update data_bars set high = high + 5 where canonical_symbol = 'EURUSD' and ts_utc < %s", [at("01:30")])
    while ("EURUSD", "5m") in due(db, "13:00"):
        catch_up(db, "EURUSD", "5m", "13:00", max_windows=2)
    settle(db, "13:00")
    db.execute("update data_bars set trade_count = 8 where canonical_symbol = 'EURUSD' and ts_utc = %s", [at("01:31")])
    settle(db, "13:00")
    far_apart = [at("01:10"), at("01:50")]
    db.execute("delete from data_bars where canonical_symbol = 'EURUSD' and ts_utc in (%s, %s)", far_apart)
    settle(db, "13:00")
    db.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
           values ('EURUSD', '1m', %s, 1, 2, 1, 2, 'late'), ('EURUSD', '1m', %s, 1, 2, 1, 2, 'late')""",
        far_apart,
    )
    assert catch_up(db, "EURUSD", "5m", "13:00")["windows_redone"] == 2
    settle(db, "13:00")
    assert_equals_oracle(db)

    # Rows that move, go, and come back.
    db.execute(
        "update data_bars set ts_utc = %s where canonical_symbol = 'EURUSD' and ts_utc = %s", [at("04:00"), at("01:20")]
    )
    db.execute(
        "update data_bars set ts_utc = ts_utc + interval '3 h' where canonical_symbol = 'EURUSD'"
        " and ts_utc in (%s, %s)",
        [at("01:31"), at("01:32")],
    )
    settle(db, "13:00")
    assert_equals_oracle(db)
    put(db, "EURUSD", "01:20")
    settle(db, "13:00")
    assert next(row for row in live(db, "EURUSD", "5m") if row["ts_utc"] == at("01:20"))["source_candles"] == 5
    db.execute(
        "delete from data_bars where canonical_symbol = 'EURUSD' and ts_utc >= %s and ts_utc < %s",
        [at("01:00"), at("01:50")],
    )
    settle(db, "13:00")
    assert times(db, "EURUSD", "1h") == []
    put(db, "EURUSD", "01:00", 50)
    settle(db, "13:00")
    assert_equals_oracle(db)
    assert [row["revision"] > 1 for row in live(db, "EURUSD", "1h")] == [True]
    with_gaps = scalar(
        db,
        """select count(*) from (select revision, row_number() over (
             partition by canonical_symbol, timeframe, ts_utc order by revision) nth from derived_data_bars) r
            where revision <> nth""",
    )
    assert with_gaps == 0

    # A weekend is passed in one step; then the next bar is not skipped.
    put(db, "EURUSD", "2026-01-12T00:00", 65)
    settle(db, "2026-01-12T01:05")
    assert times(db, "EURUSD", "5m")[-1] == "01-12 01:00"
    put(db, "EURUSD", "2026-01-12T01:05", 5)
    settle(db, "2026-01-12T03:00")
    assert_equals_oracle(db)

    # Markets that close, one of them from a date on: before hours, a session short of bars, a night, a weekend.
    register(db, "ACME", "EURUSD5")
    follow(db, "ACME", "XNYS", since="2026-01-06")
    follow(db, "EURUSD5", "fx_24x5")
    put(db, "ACME", "14:00", 400)
    put(db, "ACME", "2026-01-06T14:00", 47)
    put(db, "ACME", "2026-01-06T15:00", 60)
    put(db, "ACME", "2026-01-06T23:00", 2)
    put(db, "EURUSD5", "2026-01-08T22:00", 24 * 60)
    settle(db, "2026-01-06T16:01")
    assert times(db, "ACME", "1h")[-1] == "01-06 15:00", "14:00 has 3 of 6"
    put(db, "ACME", "2026-01-06T17:00", 2)
    put(db, "ACME", "2026-01-06T13:00", 5)
    settle(db, "2026-01-12T03:00")
    assert_equals_oracle(db)
    put(db, "ACME", "2026-01-12T14:25", 5)
    put(db, "ACME", "2026-01-12T14:30", 25)
    settle(db, "2026-01-12T15:01")
    assert times(db, "ACME", "1h")[-1] == "01-06 23:00", "5 of 6, and one from before the session"
    settle(db, "2026-01-12T15:15")
    assert times(db, "ACME", "1h")[-1] == "01-12 14:00"
