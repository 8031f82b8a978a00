"""What the log of touched windows costs the ingester: data_bars with its triggers against data_bars without."""

import contextlib
import datetime as dt
import statistics
import time
from dataclasses import dataclass, field

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.sql.helpers import fresh_database, scalar

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
ROUNDS = 16
WARM_UP = 3
BATCH = 10_000
SINGLES = 500

UPSERT = """on conflict (canonical_symbol, timeframe, ts_utc) do update
   set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, vol = excluded.vol,
       vwap = excluded.vwap, trade_count = excluded.trade_count, ingested_at = now()"""
COLUMNS = "canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count, source"
# The rows wait in the database: what it costs to send and parse them would hide a part of what the triggers cost.
FROM_STAGE = f"insert into data_bars ({COLUMNS}) select {COLUMNS} from stage order by nth {UPSERT}"
ONE_ROW = f"insert into data_bars ({COLUMNS}) values (%s, '1m', %s, 1, 2, 0.5, 1.5, 10, 1.2, 3, 'bench') {UPSERT}"


@dataclass
class Ingest:
    """A database of its own with some bars already in it, and a clock at which its next bars start."""

    db: psycopg.Connection
    symbols: int
    triggers: bool
    clock: dt.datetime = BEGIN
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def prepare(self) -> None:
        self.db.execute("set synchronous_commit = off")
        if not self.triggers:
            for event in ("insert", "update", "delete", "truncate"):
                self.db.execute(f"drop trigger agg_dirty_on_{event} on data_bars")
        # A vacuum of its own accord would fall into one round of one side.
        self.db.execute("alter table data_bars set (autovacuum_enabled = off)")
        self.db.execute(
            "insert into core_asset_registry_all (canonical_symbol) select 'S' || n from generate_series(1, %s) n",
            [self.symbols],
        )
        self.db.execute(f"create temporary table stage as select 0 as nth, {COLUMNS} from data_bars limit 0")
        self.stage(10 * BATCH)
        self.db.execute(FROM_STAGE)
        self.settle(self.windows_of_stage())
        self.db.execute("vacuum analyze")

    def stage(self, rows: int) -> None:
        """The next bars as they come in live: minute by minute, all symbols in each."""
        self.db.execute("truncate stage")
        self.db.execute(
            f"""insert into stage (nth, {COLUMNS})
                select n, 'S' || 1 + n %% %s, '1m', %s + n / %s * interval '1 minute',
                       1, 2, 0.5, 1.5, 10, 1.2, 3, 'bench' from generate_series(0, %s) n""",
            [self.symbols, self.clock, self.symbols, rows - 1],
        )
        self.db.execute("analyze stage")
        self.clock += dt.timedelta(minutes=rows // self.symbols)

    def windows_of_stage(self) -> int:
        return scalar(
            self.db,
            "select count(distinct (canonical_symbol, date_bin('5 minutes', ts_utc, %s))) from stage",
            [BEGIN],
        )

    def round(self) -> None:
        """New bars in a batch, the same ones again (so that each is an update), and new bars one by one."""
        self.stage(BATCH)
        for what in ("batch", "batch_again"):
            began = time.perf_counter()
            written = self.db.execute(FROM_STAGE).rowcount
            self.seconds.setdefault(what, []).append(time.perf_counter() - began)
            assert written == BATCH, "no work is fast"
            self.settle(self.windows_of_stage())

        bars = [
            (f"S{1 + n % self.symbols}", self.clock + n // self.symbols * dt.timedelta(minutes=1))
            for n in range(SINGLES)
        ]
        began = time.perf_counter()
        written = sum(self.db.execute(ONE_ROW, bar, prepare=True).rowcount for bar in bars)
        self.seconds.setdefault("single_rows", []).append(time.perf_counter() - began)
        assert written == SINGLES, "no work is fast"
        self.settle(SINGLES)
        self.clock = bars[-1][1] + dt.timedelta(minutes=1)

    def settle(self, touched: int) -> None:
        """The log holds the windows that were written to, no fewer, no more. Emptied as catch-up and autovacuum do."""
        logged = scalar(
            self.db,
            "select coalesce(sum(extract(epoch from to_utc - from_utc) / 300), 0)::integer from agg_dirty_ranges",
        )
        assert logged == (touched if self.triggers else 0)
        self.db.execute("delete from agg_dirty_ranges")
        self.db.execute("vacuum agg_dirty_ranges")


@pytest.mark.bench
@pytest.mark.parametrize("symbols", [50, 1000, 10_000])
def test_ingest_with_the_triggers_against_without(stack: Stack, symbols: int, report: Report) -> None:
    """Rows/s with triggers over rows/s without: median of the ratios of 16 rounds in turn, after 3 to warm up.

    Goals: at least 0.85 for batches of 10,000 rows, 0.65 for single rows. The control is a second database without
    triggers: how far its ratio is from 1 is how far the others are to be trusted.
    """
    with contextlib.ExitStack() as opened:
        sides: dict[str, Ingest] = {}
        for name in ("logged", "plain", "control"):
            dsn = opened.enter_context(fresh_database(stack.dsn, f"ingest_{name}"))
            migrate(dsn)
            db = opened.enter_context(psycopg.connect(dsn, autocommit=True))
            sides[name] = Ingest(db, symbols, triggers=name == "logged")
            sides[name].prepare()
        turns = list(sides.values())
        for nth in range(WARM_UP + ROUNDS):
            first = nth % len(turns)
            for side in turns[first:] + turns[:first]:
                side.round()
    for what, rows in (("batch", BATCH), ("batch_again", BATCH), ("single_rows", SINGLES)):
        logged, plain, control = (sides[name].seconds[what][WARM_UP:] for name in ("logged", "plain", "control"))
        for name, side in (("", logged), ("control_", control)):
            report(
                f"ingest_{name}{what}_{symbols}_symbols", rows / statistics.median(side), "rows/s",
                baseline=rows / statistics.median(plain), values=plain, baselines=side,
            )  # fmt: skip
