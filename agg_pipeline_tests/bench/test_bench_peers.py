"""The same bars by pandas, polars and duckdb: read from PostgreSQL, computed, written back. Binary COPY both ways."""

import datetime as dt
import statistics
from collections.abc import Callable

import adbc_driver_postgresql.dbapi as adbc
import duckdb
import polars as pl
import pyarrow as pa
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import MONDAY, market
from agg_pipeline_tests.bench.rounds import Side, Watch, in_turn
from agg_pipeline_tests.bench.test_bench_catch_up import catch_up

SYMBOLS = 50
LENGTH = dt.timedelta(hours=12)
ROUNDS = 5
DAYS = 14

READ = """select canonical_symbol, ts_utc, open, high, low, close, vol, vwap, trade_count, is_partial from data_bars
           where timeframe = '1m' and ts_utc >= '{}' and ts_utc < '{}' order by canonical_symbol, ts_utc"""
COLUMNS = [
    "canonical_symbol",
    "ts_utc",
    "open",
    "high",
    "low",
    "close",
    "vol",
    "vwap",
    "trade_count",
    "is_partial",
    "source_candles",
]


def by_pandas(raw: pa.Table) -> pa.Table:
    bars = raw.to_pandas()
    bars["weight"] = bars["vol"].where(bars["vwap"].notna())
    bars["weighted"] = bars["vwap"] * bars["vol"]
    grouped = bars.groupby(["canonical_symbol", bars["ts_utc"].dt.floor("5min")], sort=False)
    found = grouped.agg(
        open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"), vol=("vol", "sum"),
        weighted=("weighted", "sum"), weight=("weight", "sum"), trade_count=("trade_count", "sum"),
        is_partial=("is_partial", "any"), source_candles=("open", "size"),
    ).reset_index()  # fmt: skip
    found["vwap"] = found["weighted"] / found["weight"].where(found["weight"] != 0)
    return pa.Table.from_pandas(found[found["source_candles"] >= 3][COLUMNS], preserve_index=False)


def by_polars(raw: pa.Table) -> pa.Table:
    bars = pl.from_arrow(raw)
    assert isinstance(bars, pl.DataFrame)
    weight = pl.col("vol").filter(pl.col("vwap").is_not_null()).sum()
    found = bars.group_by("canonical_symbol", pl.col("ts_utc").dt.truncate("5m")).agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
        pl.col("vol").sum(), vwap=(pl.col("vwap") * pl.col("vol")).sum() / weight,
        trade_count=pl.col("trade_count").sum(),
        is_partial=pl.col("is_partial").any(), source_candles=pl.len(),
    )  # fmt: skip
    return found.filter(pl.col("source_candles") >= 3).select(COLUMNS).to_arrow()


def by_duckdb(raw: pa.Table) -> pa.Table:
    with duckdb.connect() as engine:
        engine.execute("set timezone = 'UTC'")
        engine.register("raw", raw)
        return engine.sql(
            """select canonical_symbol, time_bucket(interval '5 minutes', ts_utc) as ts_utc,
                      arg_min(open, raw.ts_utc) as open, max(high) as high, min(low) as low,
                      arg_max(close, raw.ts_utc) as close, sum(vol) as vol,
                      sum(vwap * vol) / nullif(sum(vol) filter (where vwap is not null), 0) as vwap,
                      sum(trade_count)::integer as trade_count, bool_or(is_partial) as is_partial,
                      count(*)::integer as source_candles
                 from raw group by 1, 2 having count(*) >= 3"""
        ).to_arrow_table()


PEERS: dict[str, Callable[[pa.Table], pa.Table]] = {"pandas": by_pandas, "polars": by_polars, "duckdb": by_duckdb}


@pytest.mark.bench
def test_end_to_end_against_pandas_polars_and_duckdb(stack: Stack, report: Report) -> None:
    """Twelve hours of 50 symbols a round, from 1m bars in PostgreSQL to 5m bars in PostgreSQL. Windows/s, 5 rounds.

    Peers read with ADBC, compute, and append with ADBC (COPY in binary, both ways) to a table with the same indexes and
    foreign key and no triggers. Ours also takes leases, moves cursors, finds late bars and keeps revisions; theirs
    cannot be repeated.
    """
    with market(stack, "peers", SYMBOLS, gaps=True) as opened:
        opened.load(MONDAY + dt.timedelta(days=DAYS), noted=False)
        opened.settle()
        tasks = [(f"S{n + 1}", "5m") for n in range(SYMBOLS)]

        def ours(n: int) -> float:
            before = opened.bars("5m")
            spent = catch_up(opened, tasks, MONDAY + (n + 1) * LENGTH)
            written["ours"] = opened.bars("5m") - before
            opened.settle()
            return spent

        def peer(name: str) -> Side:
            def run(n: int) -> float:
                watch = Watch()
                with (
                    adbc.connect(opened.dsn, autocommit=True) as connection,
                    connection.cursor() as cursor,
                    watch.running(),
                ):
                    cursor.execute(READ.format(MONDAY + n * LENGTH, MONDAY + (n + 1) * LENGTH))
                    found = _completed(PEERS[name](cursor.fetch_arrow_table()))
                    written[name] = cursor.adbc_ingest(f"by_{name}", found, mode="append")
                return watch.seconds

            return run

        written: dict[str, int] = {}
        for name in PEERS:
            opened.db.execute(
                f"create table by_{name} (like derived_data_bars including all, "
                "foreign key (canonical_symbol) references core_asset_registry_all (canonical_symbol))"
            )
        seconds = in_turn({"ours": ours} | {name: peer(name) for name in PEERS}, rounds=ROUNDS)
        assert len(set(written.values())) == 1, f"not the same bars: {written}"
        same = "select canonical_symbol, ts_utc, open, high, low, close, source_candles from {} where timeframe = '5m'"
        for name in PEERS:
            differ = opened.db.execute(
                f"{same.format('derived_data_bars')} except {same.format(f'by_{name}')}"
            ).fetchall()
            assert differ == [], f"{name} has other bars"
    windows = SYMBOLS * (LENGTH // dt.timedelta(minutes=5))
    rates = {name: [windows / s for s in spent] for name, spent in seconds.items()}
    for name in PEERS:
        report(
            f"end_to_end_against_{name}", statistics.median(rates["ours"]), "windows/s",
            baseline=statistics.median(rates[name]), values=rates["ours"], baselines=rates[name],
        )  # fmt: skip


def _completed(bars: pa.Table) -> pa.Table:
    """With the columns that are the same in every row, and the types that COPY wants."""
    n = bars.num_rows
    constant = {
        "timeframe": pa.array(["5m"] * n),
        "source_timeframe": pa.array(["1m"] * n),
        "expected_candles": pa.array([5] * n, pa.int32()),
    }
    for name in ("trade_count", "source_candles"):
        bars = bars.set_column(bars.column_names.index(name), name, bars[name].cast(pa.int32()))
    times = bars["ts_utc"].cast(pa.timestamp("us", "UTC"))
    bars = bars.set_column(bars.column_names.index("ts_utc"), "ts_utc", times)
    symbols = bars["canonical_symbol"].cast(pa.string())
    bars = bars.set_column(bars.column_names.index("canonical_symbol"), "canonical_symbol", symbols)
    for name, column in constant.items():
        bars = bars.append_column(name, column)
    return bars
