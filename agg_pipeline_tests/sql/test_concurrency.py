"""Writers that commit late, two aggregators and a reader at once; and a control that must lose bars."""

import concurrent.futures
import datetime as dt
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest
from psycopg.types.json import Jsonb

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline_tests.oracle import bars_of
from agg_pipeline_tests.sql.helpers import (
    MINUTES,
    at,
    catch_up,
    copied_database,
    due,
    edited_schema,
    fresh_database,
    live,
    put,
    register,
    scalar,
    settle,
)

ROUNDS = 60  # of four writers: how much is done does not depend on the machine
LATEST = "2026-03-01T00:00"
STABLE_FROM = at("2026-01-04T00:00")  # a day whose bars are only ever corrected: none may vanish, not for a moment
STABLE_BARS = 288 + 96 + 24 + 6 + 1
BEGIN = at("00:00")

# What a clever implementation would do, and loses by: it asks where the cursor is while a catch-up is about to move it.
ONLY_BELOW_THE_CURSOR = (
    "on t.source_timeframe = b.timeframe\n",
    """on t.source_timeframe = b.timeframe
              join public.data_agg_state s on s.canonical_symbol = b.canonical_symbol and s.timeframe = t.timeframe
               and b.ts_utc < s.last_agg_bar_ts_utc
""",
)


class Load:
    """Everybody at work on one symbol of one database until the writers have done their rounds."""

    def __init__(self, dsn: str) -> None:
        self.dsn, self.is_over = dsn, threading.Event()
        self.written: Counter[str] = Counter()
        self.seen: list[str] = []
        self.lock = threading.Lock()
        # They write the same window at the same time: only the last to commit there can be overtaken by the cursor.
        self.abreast = threading.Barrier(4)

    def run(self) -> None:
        workers: list[Callable[[], None]] = [lambda n=n: self.write(n) for n in range(self.abreast.parties)]  # type: ignore[misc]
        others = [self.aggregate, self.aggregate, self.read]
        with concurrent.futures.ThreadPoolExecutor(len(workers) + len(others)) as pool:
            beside = [pool.submit(work) for work in others]
            try:
                for done in [pool.submit(work) for work in workers]:
                    done.result(timeout=120)
            finally:
                self.is_over.set()
            for ended in beside:
                ended.result(timeout=60)

    def write(self, n: int) -> None:
        """New bars, one minute of each window, in transactions that stay open; sometimes a correction or a deletion."""
        rng, minute = random.Random(n), n
        with psycopg.connect(self.dsn) as own:
            for _ in range(ROUNDS):
                self.abreast.wait(60)
                put(own, "EURUSD", BEGIN + dt.timedelta(minutes=minute))
                kind = rng.choice(["new", "new", "new", "corrected", "deleted", "stable"])
                mine = BEGIN + dt.timedelta(minutes=n + 5 * rng.randrange(minute // 5 + 1))
                if kind == "corrected":
                    put(own, "EURUSD", mine, high=1000 + rng.random())
                elif kind == "deleted":
                    own.execute("delete from data_bars where canonical_symbol = 'EURUSD' and ts_utc = %s", [mine])
                elif kind == "stable":
                    put(
                        own,
                        "EURUSD",
                        STABLE_FROM + dt.timedelta(minutes=n + 5 * rng.randrange(288)),
                        high=rng.random() + 900,
                    )
                time.sleep(rng.random() * 0.03)
                if rng.random() < 0.1:
                    own.rollback()
                    kind = "rolled back"
                else:
                    own.commit()
                with self.lock:
                    self.written[kind] += 1
                minute += 5

    def aggregate(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as own:
            while not self.is_over.is_set():
                for timeframe in ("5m", "15m", "1h", "4h", "1d"):
                    catch_up(own, "EURUSD", timeframe, LATEST)

    def read(self) -> None:
        """Every look at the stable day must find each of its bars exactly once."""
        with psycopg.connect(self.dsn, autocommit=True) as own:
            while not self.is_over.is_set():
                found = own.execute(
                    """select timeframe, count(*), count(distinct ts_utc) from derived_data_bars
                        where canonical_symbol = 'EURUSD' and deleted_at is null and ts_utc >= %s and ts_utc < %s
                        group by 1""",
                    [STABLE_FROM, BEGIN],
                ).fetchall()
                counts = {timeframe: (bars, different) for timeframe, bars, different in found}
                want = {tf: (1440 // MINUTES[tf],) * 2 for tf in ("5m", "15m", "1h", "4h", "1d")}
                self.seen.append("right" if counts == want else f"{counts}")


def play(dsn: str) -> tuple[Load, int, int]:
    """Run the load; the load, how many bars there should be, how many differ in the end."""
    with psycopg.connect(dsn, autocommit=True) as db:
        register(db, "EURUSD", start="2026-01-04T00:00")
        put(db, "EURUSD", STABLE_FROM, 1440)
        settle(db, "00:01")
        load = Load(dsn)
        load.run()
        for _ in range(3):  # a task that lost its race is due again
            settle(db, LATEST, max_windows=100_000)
        raw, stored = bars_of(db, "EURUSD")
        expected = reference_bars(raw, Timeframe.M1, STABLE_FROM)
        wrong = {
            tuple(bar)
            for timeframe, fresh in expected.items()
            for bar in differences(fresh, stored[stored["timeframe"] == timeframe.value])[
                ["timeframe", "ts_utc"]
            ].values
        }
        assert due(db, LATEST) == []
        return load, sum(map(len, expected.values())), len(wrong)


def test_nothing_is_lost_and_no_reader_sees_a_hole(stack: Stack, migrated: str) -> None:
    with copied_database(stack.dsn, "concurrency", of="all_migrations") as dsn:
        load, bars, wrong = play(dsn)
        with psycopg.connect(dsn) as db:
            revisions = scalar(db, "select count(*) from derived_data_bars where deleted_at is not null")
    print(f"{dict(load.written)} transactions, {len(load.seen)} looks, {bars} bars, {revisions} older revisions")
    assert min(load.written[kind] for kind in ("new", "corrected", "deleted", "stable", "rolled back")) > 10, "no work"
    assert min(bars - STABLE_BARS, revisions, len(load.seen)) > 50, "no work proves nothing"
    assert set(load.seen) == {"right"}
    assert wrong == 0


def without_the_log_above_the_cursor(dsn: str) -> None:
    """Make a migrated database log only what lies below the cursor."""
    with psycopg.connect(dsn) as db:
        db.execute(edited_schema("dirty_ranges", *ONLY_BELOW_THE_CURSOR).encode())


def test_a_log_only_below_the_cursor_loses_who_commits_late(stack: Stack) -> None:
    """What the log of all changes is for: see the test of the same case in test_touched_rows.py."""
    with fresh_database(stack.dsn, "control") as dsn:
        migrate(dsn)
        without_the_log_above_the_cursor(dsn)
        with psycopg.connect(dsn, autocommit=True) as db, psycopg.connect(dsn) as writer:
            register(db, "EURUSD")
            put(db, "EURUSD", "10:00", 4)
            put(db, "EURUSD", "10:05", 5)
            put(writer, "EURUSD", "10:04")
            settle(db, "10:10")
            writer.commit()
            settle(db, "10:10")
            assert [row["source_candles"] for row in live(db, "EURUSD", "5m")] == [4, 5]


@pytest.mark.nightly
def test_under_the_load_a_log_only_below_the_cursor_does_lose_bars(stack: Stack) -> None:
    """The control of the load: were this right as well, it would prove nothing."""
    wrong = 0
    for attempt in range(5):  # it is a matter of chance; once is enough
        with fresh_database(stack.dsn, "control") as dsn:
            migrate(dsn)
            without_the_log_above_the_cursor(dsn)
            _, bars, wrong = play(dsn)
        print(f"{wrong} of {bars} bars are wrong (attempt {attempt + 1})")
        if wrong:
            break
    assert wrong > 0


@pytest.mark.parametrize("first", ["15m", "1h"])
def test_two_aggregators_of_different_levels_do_not_block_each_other_for_ever(
    stack: Stack, clean: psycopg.Connection, first: str
) -> None:
    """A parent that runs during its child's catch-up reads committed bars, and the rest once they invalidate it."""
    register(clean, "EURUSD")
    put(clean, "EURUSD", "10:00", 60)
    clean.execute("set lock_timeout = '2s'")
    with psycopg.connect(stack.dsn) as child:
        catch_up(child, "EURUSD", "5m", "11:00")
        assert catch_up(clean, "EURUSD", first, "11:00")["bars_created"] == 0
        child.commit()
    assert catch_up(clean, "EURUSD", first, "11:00")["bars_created"] == 60 // MINUTES[first]


def test_writers_of_the_same_rows_do_not_deadlock(live: str) -> None:
    """Four loads of the same bars, each in another order. Written so, two of them wait for each other for ever."""
    with psycopg.connect(live, autocommit=True) as db:
        register(db, "EURUSD", "BTCUSD")
    bars = [
        {"canonical_symbol": symbol, "ts_utc": (BEGIN + n * dt.timedelta(minutes=1)).isoformat(), "open": 1, "high": 2,
         "low": 1, "close": 1}
        for symbol in ("EURUSD", "BTCUSD")
        for n in range(1500)
    ]  # fmt: skip
    abreast = threading.Barrier(4)

    def write(n: int) -> None:
        order = random.Random(n)
        with psycopg.connect(live, autocommit=True) as db:
            for close in range(3):
                mine = [row | {"close": 1 + (n + close) % 2} for row in bars]
                mine.sort(key=lambda row: row["ts_utc"], reverse=bool(n % 2)) if n < 2 else order.shuffle(mine)
                abreast.wait(60)
                scalar(db, "select agg_load_bars(%s)", [Jsonb(mine)])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for written in [pool.submit(write, n) for n in range(4)]:
            written.result(timeout=120)
    with psycopg.connect(live, autocommit=True) as db:
        assert scalar(db, "select count(*) from data_bars") == len(bars)
