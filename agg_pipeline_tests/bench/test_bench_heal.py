"""What it costs to heal one late bar, as history and the number of symbols grow."""

import contextlib
import datetime as dt
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.sql.helpers import Row, batch, due, fresh_database, put_bars, register, scalar, task

BEGIN = dt.datetime(2025, 1, 6, tzinfo=dt.UTC)
LEVELS = ("5m", "15m", "1h", "4h", "1d")
ROUNDS = 40
WARM_UP = 4


@dataclass
class History:
    """A database of its own, rolled up to its end but for one missing minute per round."""

    name: str
    symbols: int
    days: int
    db: psycopg.Connection
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def now(self) -> dt.datetime:
        """All is built and no new window has ended, so that a heal is all there is to do."""
        return BEGIN + dt.timedelta(days=self.days, minutes=1)

    def missing(self, nth: int) -> dt.datetime:
        """Spread over all of the history, never two in one 5m window."""
        return BEGIN + dt.timedelta(minutes=(2 * nth + 1) * self.days * 24 * 60 // (2 * ROUNDS))

    def fill(self) -> None:
        names = [f"S{n}" for n in range(self.symbols)]
        register(self.db, *names, start=BEGIN.isoformat()[:16])
        self.db.execute(
            """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, source)
               select symbol, '1m', ts, 100, 102, 98, 101, 10, 100, 'bench'
                 from generate_series(%s::timestamptz, %s, interval '1 minute') ts, unnest(%s::text[]) symbol
                where ts <> all (%s)""",
            [
                BEGIN, BEGIN + dt.timedelta(days=self.days, minutes=-1), names,
                [self.missing(nth) for nth in range(ROUNDS)],
            ],
        )  # fmt: skip
        self.db.execute("vacuum analyze")
        for name in names:
            self.run_chain(name)
        assert due(self.db, self.now) == [], "the history is not rolled up"
        self.db.execute("vacuum analyze")

    def run_chain(self, symbol: str) -> list[Row]:
        """Lease, catch up and finish the tasks of a symbol, three calls in three transactions as a run makes them."""
        tasks = [task(symbol, level) for level in LEVELS]
        leases = batch(self.db, "agg_start_batch", tasks, p_now_utc=self.now, p_owner="bench")
        assert all(lease["success"] for lease in leases), leases
        results = batch(self.db, "catchup_aggregation_batch", leases, p_now_utc=self.now, p_max_windows=100_000)
        outcomes = [lease | {"success": True, "stats": result} for lease, result in zip(leases, results, strict=True)]
        finished = batch(self.db, "agg_finish_batch", outcomes, p_now_utc=self.now)
        assert all(done.get("success") for done in finished), finished
        return results

    def heal(self, nth: int) -> None:
        """Put the missing bar of this round, select what is due, and run it."""
        symbol = f"S{nth % self.symbols}"
        bars, dirty = self.bars(), scalar(self.db, "select count(*) from agg_dirty_ranges")
        late = {
            "ts_utc": self.missing(nth), "open": 100, "high": 200 + nth, "low": 98, "close": 101, "vol": 10,
            "vwap": 100, "trade_count": None, "is_partial": False,
        }  # fmt: skip
        with self.timed("put"):
            put_bars(self.db, symbol, [late])
        with self.timed("due"):
            selected = due(self.db, self.now)
        assert selected == [(symbol, level) for level in LEVELS]
        with self.timed("heal"):
            results = self.run_chain(symbol)
        assert [(result["windows_redone"], result["bars_revised"]) for result in results] == [(1, 1)] * len(LEVELS)
        assert [result["windows_processed"] for result in results] == [1] * len(LEVELS), "another window was touched"
        assert self.bars() == (bars[0], bars[1] + len(LEVELS)), "live bars, bars that were replaced"
        assert scalar(self.db, "select count(*) from agg_dirty_ranges") == dirty == 0

    def bars(self) -> tuple[int, int]:
        """Live bars and replaced ones. A count of the whole table also brings each database into the cache alike."""
        return self.db.execute(
            "select count(*) filter (where deleted_at is null), count(deleted_at) from derived_data_bars"
        ).fetchone()  # type: ignore[return-value]

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds.setdefault(what, []).append(time.perf_counter() - began)

    def median(self, what: str) -> float:
        return statistics.median(self.seconds[what][WARM_UP:])


@pytest.mark.bench
def test_healing_a_late_bar_costs_the_same_at_any_length_of_history(stack: Stack, report: Report) -> None:
    """Median seconds of 36 rounds in turn, after 4 to warm up, against one symbol with 3 days. Goal: at most 1.3 times.

    ``heal``: start, catch-up and finish of the five tasks that the bar touches; ``due``: the selection before it;
    ``put``: the upsert of the bar, with its note in the log.
    """
    shapes = {
        "1x": (1, 3),
        "10x": (1, 30),
        "100x": (1, 300),
        "10_symbols": (10, 3),
        "100_symbols": (100, 3),
        "512_symbols": (512, 3),
    }
    with contextlib.ExitStack() as opened:
        histories = []
        for name, (symbols, days) in shapes.items():
            dsn = opened.enter_context(fresh_database(stack.dsn, f"heal_{name}"))
            migrate(dsn)
            db = opened.enter_context(psycopg.connect(dsn, autocommit=True))
            histories.append(History(name, symbols, days, db))
            histories[-1].fill()
        for nth in range(ROUNDS):
            turn = nth % len(histories)
            for history in histories[turn:] + histories[:turn]:
                history.heal(nth)
    base, *others = histories
    for what in ("heal", "due", "put"):
        for history in others:
            value, baseline = history.median(what), base.median(what)
            report(
                f"{what}_one_late_bar_{history.name}", 1000 * value, "ms", baseline=1000 * baseline,
                values=history.seconds[what][WARM_UP:], baselines=base.seconds[what][WARM_UP:],
            )  # fmt: skip
