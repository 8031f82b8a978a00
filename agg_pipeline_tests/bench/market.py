"""A market of many symbols in a database of its own, and the calls that a tick makes there, each with its seconds."""

import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.bench.rounds import Watch
from agg_pipeline_tests.conftest import TABLES
from agg_pipeline_tests.sql.helpers import fresh_database, scalar

MONDAY = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
Task = tuple[str, str]


@dataclass
class Market:
    """``symbols`` assets S1, S2, ... with 1m bars up to ``clock``.

    ``gaps``: 2 % of the bars are missing, 1 % have no volume, 1 % no vwap; else every bar is there, so that a window is
    complete as soon as it ends.
    """

    dsn: str
    db: psycopg.Connection
    symbols: int
    begin: dt.datetime = MONDAY
    gaps: bool = False
    clock: dt.datetime = field(init=False)

    def __post_init__(self) -> None:
        self.clock = self.begin
        self.db.execute(
            "insert into core_asset_registry_all (canonical_symbol) select 'S' || n from generate_series(1, %s) n",
            [self.symbols],
        )
        self.db.execute("select public.sync_agg_state_from_registry('prod', %s)", [self.begin])
        for table in ("data_bars", "derived_data_bars", "data_agg_state", "agg_dirty_ranges"):
            # A vacuum of its own accord would fall into one round of one side; settle() does it between rounds.
            self.db.execute(f"alter table {table} set (autovacuum_enabled = off)")

    def load(self, until: dt.datetime, *, noted: bool = True) -> None:
        """Bars of [clock, until) in the order in which they come in live. Without ``noted`` no trigger sees them."""
        if not noted:
            self.db.execute("alter table data_bars disable trigger user")
        self.db.execute(
            """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap,
                                      trade_count, source)
               select 'S' || s, '1m', ts, p + 1, p + 3 + h %% 5, p - 2 - h %% 3, p + h %% 3,
                      case when not %(gaps)s or h %% 100 <> 7 then 10 + h %% 90 end,
                      case when not %(gaps)s or h %% 100 <> 8 then p + 0.5 end, 3 + h %% 50, 'bench'
                 from generate_series(%(begin)s::timestamptz, %(end)s, interval '1 minute') ts,
                      generate_series(1, %(symbols)s) s,
                      lateral (select abs(hashint8(s * 1000003::bigint + extract(epoch from ts)::bigint)::bigint) as h,
                                      100 + s %% 900 + sin(extract(epoch from ts) / 5000) * 10 as p) x
                where not %(gaps)s or h %% 100 not in (1, 2)""",
            {"gaps": self.gaps, "begin": self.clock, "end": until - MINUTE, "symbols": self.symbols},
        )
        if not noted:
            self.db.execute("alter table data_bars enable trigger user")
        self.clock = until

    def settle(self) -> None:
        """What autovacuum does between ticks: statistics and dead rows, so that no round pays for another one."""
        self.db.execute("vacuum analyze data_bars, derived_data_bars, data_agg_state, agg_dirty_ranges")

    def tick(
        self,
        now: dt.datetime,
        *,
        timeframes: Sequence[str] | None = None,
        max_windows: int = 100,
        tasks_a_call: int = 0,
    ) -> tuple[int, dict[str, float]]:
        """One tick as a run makes it, in the database alone: tasks and seconds of select, start, catch-up and finish.

        The answers are taken over as text, and read while no watch runs: reading JSON is the work of the other side.
        """
        watches = {name: Watch() for name in ("select", "start", "catch_up", "finish")}
        with watches["select"].running():
            due: list[Task] = self.db.execute(
                "select canonical_symbol, timeframe from agg_get_due_tasks('PROD', %s, null, 900, null, %s::text[])",
                [now, list(timeframes) if timeframes else None],
            ).fetchall()
        size = tasks_a_call or len(due) or 1
        for n in range(0, len(due), size):
            part = [{"canonical_symbol": symbol, "timeframe": timeframe} for symbol, timeframe in due[n : n + size]]
            leases = self.call(watches["start"], "agg_start_batch(%s, %s, 'bench', 900)", part, now)
            assert all(lease["success"] for lease in leases), "a task was not free"
            results = self.call(watches["catch_up"], f"catchup_aggregation_batch(%s, {max_windows}, %s)", leases, now)
            assert all(result.get("success") for result in results), [r for r in results if "error" in r][:3]
            outcomes = [
                lease | {"success": True, "stats": result} for lease, result in zip(leases, results, strict=True)
            ]
            finished = self.call(watches["finish"], "agg_finish_batch(%s, %s)", outcomes, now)
            assert all(done.get("success") for done in finished), "a lease could not be given back"
        return len(due), {name: watch.seconds for name, watch in watches.items()}

    def call(
        self, watch: Watch, call: str, tasks: list[dict[str, object]], now: dt.datetime
    ) -> list[dict[str, object]]:
        text = json.dumps(tasks)
        with watch.running():
            answer = self.db.execute(f"select ({call})::text", [text, now]).fetchone()
        assert answer is not None
        found: list[dict[str, object]] = json.loads(answer[0])
        return found

    def bars(self, timeframe: str) -> int:
        """Rows of derived bars that there ever were."""
        return int(scalar(self.db, "select count(*) from derived_data_bars where timeframe = %s", [timeframe]))


@contextlib.contextmanager
def market(
    stack: Stack, name: str, symbols: int, *, begin: dt.datetime = MONDAY, gaps: bool = False
) -> Iterator[Market]:
    """A market in a database of its own, dropped at the end."""
    with fresh_database(stack.dsn, f"bench_{name}") as dsn:
        migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as db:
            yield Market(dsn, db, symbols, begin, gaps)


@contextlib.contextmanager
def served_market(stack: Stack, symbols: int, *, begin: dt.datetime = MONDAY) -> Iterator[Market]:
    """A market in the database that PostgREST serves, emptied before and after."""
    with psycopg.connect(stack.dsn, autocommit=True) as db:
        db.execute(f"truncate {TABLES} restart identity cascade")
        try:
            yield Market(stack.dsn, db, symbols, begin)
        finally:
            db.execute(f"truncate {TABLES} restart identity cascade")
