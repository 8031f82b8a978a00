"""Events in random order: once nothing is due, every bar equals a recomputation."""

import contextlib
import datetime as dt
from collections.abc import Iterator

import pandas as pd
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.pq import TransactionStatus

from agg_pipeline.embedded import Stack
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline.reading.columns import BAR_COLUMNS, RAW_COLUMNS
from agg_pipeline_tests.conftest import TABLES
from agg_pipeline_tests.oracle import RAW_SELECT, hours_of
from agg_pipeline_tests.sessions import follow
from agg_pipeline_tests.sql.helpers import (
    alter_task,
    at,
    bar,
    batch,
    due,
    put_bars,
    register,
    rows,
    settle,
    task,
    tick,
)

BASE = {"ONE": Timeframe.M1, "FIVE": Timeframe.M5, "STOCK": Timeframe.M1}
CALENDAR = {"FIVE": "fx_24x5", "STOCK": "XNYS"}
AGG_START = at("00:07")
WRITERS = 3

symbols = st.sampled_from(sorted(BASE))
writers = st.sampled_from([0, 0, *range(WRITERS)])
later_writers = st.integers(1, WRITERS - 1)
# Few places, near to each other, across midnight and where sessions begin and end, so that changes meet; the last three
# make long gaps: before the close of Friday, after a weekend, in another month.
minutes = st.one_of(
    st.integers(0, 600), st.integers(860, 900), st.integers(1250, 1800), st.sampled_from([7_000, 12_000, 60_000])
)
lengths = st.one_of(st.integers(1, 12), st.integers(30, 400))
changes = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {},
        optional={
            "vol": st.sampled_from([None, 0, 7, 0.1, 1e15, -1, float("nan")]),
            "vwap": st.sampled_from([None, 50, 0.3, float("inf")]),
            "trade_count": st.sampled_from([None, 0, 9, -5]),
            "is_partial": st.just(True),
            "open": st.sampled_from([None, float("nan"), 1e9]),
            "high": st.sampled_from([1e6, float("inf"), 0]),
        },
    ),
)


class AnyOrder(RuleBasedStateMachine):
    """Raw bars of both bases change while ticks go on, by writers that commit at once, later, or never.

    One thread plays them all, so nobody may wait for another: a writer that meets a lock gives up what it did.
    """

    raw_ranges = Bundle("raw_ranges")
    leases = Bundle("leases")

    def __init__(self, dsn: str) -> None:
        super().__init__()
        # Writer 0 commits at once; what the others write is open until the rule ``commit`` or ``roll_back`` names them.
        self.writers = [psycopg.connect(dsn, autocommit=n == 0, options="-c lock_timeout=20ms") for n in range(WRITERS)]
        self.db = psycopg.connect(dsn, autocommit=True)
        self.now = AGG_START

    @initialize()
    def register_both(self) -> None:
        self.db.execute(f"truncate {TABLES} cascade")
        for symbol, base in BASE.items():
            register(self.db, symbol, base=base, start="00:07")
            follow(self.db, symbol, CALENDAR.get(symbol, "24x7"))

    @contextlib.contextmanager
    def writing(self, writer: int) -> Iterator[psycopg.Connection]:
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            yield self.writers[writer]
            return
        self.writers[writer].rollback()

    def nobody_writes(self) -> bool:
        return all(w.info.transaction_status == TransactionStatus.IDLE for w in self.writers)

    @rule(
        target=raw_ranges,
        writer=writers,
        symbol=symbols,
        minute=minutes,
        length=lengths,
        step=st.sampled_from([1, 1, 1, 2, 7]),
        change=changes,
    )
    def put(
        self, writer: int, symbol: str, minute: int, length: int, step: int, change: dict
    ) -> tuple[str, dt.datetime, dt.datetime]:
        """Upsert a run of bars, with holes if step > 1."""
        base = BASE[symbol]
        first = at("00:00") + dt.timedelta(minutes=minute - minute % base.minutes)
        times = [first + n * base.length for n in range(0, length, step)]
        with self.writing(writer) as db:
            put_bars(db, symbol, [bar(ts, 100 + ts.minute) | change for ts in times], base)
        return symbol, first, first + length * base.length

    @rule(writer=writers, symbol=symbols, minute=minutes, second=st.integers(1, 59))
    def put_off_the_grid(self, writer: int, symbol: str, minute: int, second: int) -> None:
        ts = at("00:00") + dt.timedelta(minutes=minute, seconds=second)
        with self.writing(writer) as db:
            put_bars(db, symbol, [bar(ts, 5000)], BASE[symbol])

    @rule(writer=later_writers)
    def commit(self, writer: int) -> None:
        self.writers[writer].commit()

    @rule(writer=later_writers)
    def roll_back(self, writer: int) -> None:
        self.writers[writer].rollback()

    @rule(writer=writers, chosen=raw_ranges, close=st.sampled_from([100.5, None, 130]))
    def correct(self, writer: int, chosen: tuple[str, dt.datetime, dt.datetime], close: float | None) -> None:
        with self.writing(writer) as db:
            db.execute(
                "update data_bars set close = %s where canonical_symbol = %s and ts_utc >= %s and ts_utc < %s",
                [close, *chosen],
            )

    @rule(writer=writers, chosen=raw_ranges, by=st.sampled_from([1, 5, 60]))
    def move(self, writer: int, chosen: tuple[str, dt.datetime, dt.datetime], by: int) -> None:
        """Bars get another time, where there is none yet."""
        symbol, begin, end = chosen
        by = max(by, BASE[symbol].minutes)
        # Another writer may have taken the place meanwhile; then nothing is moved.
        taken = contextlib.suppress(psycopg.errors.UniqueViolation)
        with self.writing(writer) as db, taken, db.transaction():
            db.execute(
                """update data_bars b set ts_utc = ts_utc + make_interval(mins => %(by)s)
                    where canonical_symbol = %(symbol)s and ts_utc >= %(begin)s and ts_utc < %(end)s
                      and (extract(minute from ts_utc)::int / 5) %% 2 = 0
                      and not exists (
                        select from data_bars o
                         where o.canonical_symbol = b.canonical_symbol and o.timeframe = b.timeframe
                           and o.ts_utc in (b.ts_utc + make_interval(mins => %(by)s),
                                            b.ts_utc - make_interval(mins => %(by)s)))""",
                {"by": by, "symbol": symbol, "begin": begin, "end": end},
            )

    @rule(writer=writers, chosen=consumes(raw_ranges))
    def delete(self, writer: int, chosen: tuple[str, dt.datetime, dt.datetime]) -> None:
        with self.writing(writer) as db:
            db.execute("delete from data_bars where canonical_symbol = %s and ts_utc >= %s and ts_utc < %s", chosen)

    @precondition(nobody_writes)
    @rule()
    def truncate(self) -> None:
        self.db.execute("truncate data_bars")

    @rule(
        symbol=symbols,
        timeframe=st.sampled_from(["5m", "15m", "1h", "4h", "1d"]),
        minute=minutes,
        length=lengths,
        rebuild=st.booleans(),
    )
    def build_again(self, symbol: str, timeframe: str, minute: int, length: int, rebuild: bool) -> None:
        """An operator marks a range, or has it rebuilt; a leased task is refused."""
        begin = at("00:00") + dt.timedelta(minutes=minute)
        span = [symbol, timeframe, begin, begin + dt.timedelta(minutes=length)]
        with contextlib.suppress(psycopg.DatabaseError):  # FIVE has no 5m
            if rebuild:
                self.db.execute("select agg_rebuild_range(%s, %s, %s, %s, false, null, %s)", [*span, self.now])
            else:
                self.db.execute("select agg_invalidate_range(%s, %s, %s, %s, 'why')", span)

    @rule(
        symbol=symbols,
        calendar=st.sampled_from(["24x7", "fx_24x5", "XNYS"]),
        since=st.sampled_from([None, "2026-01-05", "2026-01-06", "2026-01-13"]),
    )
    def follow_another_calendar(self, symbol: str, calendar: str, since: str | None) -> None:
        follow(self.db, symbol, calendar, since)

    @rule(to=st.one_of(st.integers(1, 60), st.sampled_from([300, 1500, 20_000])))
    def wait(self, to: int) -> None:
        self.now += dt.timedelta(minutes=to)

    @rule(to=st.sampled_from([3, 70, 2000]))
    def clock_jumps_back(self, to: int) -> None:
        self.now -= dt.timedelta(minutes=to)

    @rule(limit=st.sampled_from([None, 1, 2, 3, 20]), max_windows=st.sampled_from([1, 2, 5, 50, 1000]))
    def tick(self, limit: int | None, max_windows: int) -> None:
        tick(self.db, self.now, limit=limit, max_windows=max_windows)

    @rule(max_windows=st.sampled_from([1, 5, 1000]))
    def tick_that_is_rolled_back(self, max_windows: int) -> None:
        with self.db.transaction(force_rollback=True):
            tick(self.db, self.now, max_windows=max_windows)

    @rule(target=leases, max_windows=st.sampled_from([1, 5, 1000]))
    def tick_that_never_finishes(self, max_windows: int) -> list[dict]:
        tasks = [task(*key) for key in due(self.db, self.now, limit=3)]
        leased = batch(self.db, "agg_start_batch", tasks, p_now_utc=self.now, p_owner="lost") if tasks else []
        return (
            batch(self.db, "catchup_aggregation_batch", leased, p_now_utc=self.now, p_max_windows=max_windows)
            if leased
            else []
        )

    @rule(lost=leases)
    def a_lost_run_comes_back_late(self, lost: list[dict]) -> None:
        if lost:
            batch(
                self.db,
                "catchup_aggregation_batch",
                [{**lease, "lease_token": 1} for lease in lost],
                p_now_utc=self.now,
            )

    @rule(symbol=symbols, timeframe=st.sampled_from(["5m", "15m", "1h", "4h", "1d"]), enabled=st.booleans())
    def switch(self, symbol: str, timeframe: str, enabled: bool) -> None:
        alter_task(self.db, symbol, timeframe, enabled=enabled)

    def teardown(self) -> None:
        try:
            for n, writer in enumerate(self.writers):
                writer.commit() if n % 2 else writer.rollback()
            if rows(self.db, "select 1 from core_asset_registry_all"):
                self.quiesce()
                self.compare()
                self.check_revisions()
        finally:
            for connection in (*self.writers, self.db):
                connection.close()

    def quiesce(self) -> None:
        self.db.execute("update data_agg_state set enabled = true")
        # Twice: what never finished is due again when it is stale and its back-off is over.
        for days in (100, 200):
            self.now += dt.timedelta(days=days)
            settle(self.db, self.now, max_windows=100_000)
        waiting = rows(
            self.db,
            """select d.* from agg_dirty_ranges d join agg_tasks t using (canonical_symbol, timeframe)
                where greatest(d.from_utc, t.first_window) < least(d.to_utc, t.cursor_utc)""",
        )
        assert not waiting, waiting[:5]

    def compare(self) -> None:
        raw = pd.DataFrame(rows(self.db, f"select {RAW_SELECT} from data_bars"), columns=RAW_COLUMNS)
        stored = pd.DataFrame(
            rows(self.db, "select * from derived_data_bars where deleted_at is null"), columns=BAR_COLUMNS
        )
        expected = [
            bars
            for symbol, base in BASE.items()
            for bars in reference_bars(
                raw[raw["canonical_symbol"] == symbol], base, AGG_START, hours_of(self.db, symbol)
            ).values()
        ]
        wrong = differences(pd.concat(expected), stored)
        assert wrong.empty, f"{len(wrong)} differences\n{wrong.head(20).to_string()}"

    def check_revisions(self) -> None:
        """Revisions of a bar count from 1 without a gap, one after the other, and differ from the one before."""
        broken = rows(
            self.db,
            """select * from (
                 select *, row_number() over bar as nth, lag(deleted_at) over bar as ended,
                        lag((open, high, low, close, vol, vwap, trade_count, is_partial, source_candles, raw))
                          over bar as looked
                   from derived_data_bars
                 window bar as (partition by canonical_symbol, timeframe, ts_utc order by revision)) r
                where revision <> nth or deleted_at < created_at
                   or (nth > 1 and (ended is null or ended > created_at))
                   or (ended = created_at and looked is not distinct from
                       (open, high, low, close, vol, vwap, trade_count, is_partial, source_candles, raw))""",
        )
        assert not broken, broken[:5]


@pytest.fixture
def dsn(stack: Stack, clean: psycopg.Connection) -> str:
    return stack.dsn


@pytest.mark.random
def test_bars_equal_a_fresh_computation_after_any_sequence_of_events(dsn: str) -> None:
    run_state_machine_as_test(
        lambda: AnyOrder(dsn),
        settings=settings(
            max_examples=settings().max_examples // 25,  # one takes a second
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        ),
    )
