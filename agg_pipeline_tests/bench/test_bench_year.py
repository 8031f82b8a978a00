"""A year of 1m bars of one symbol, backfilled to all five timeframes in one run, against the same rows by plain SQL."""

import datetime as dt
import statistics
import time

import dagster as dg
import psycopg
import pytest

from agg_pipeline.aggregation.backfill import backfill_symbol
from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline.market.timeframes import LADDER
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline.settings import load_settings
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import Market, served_market
from agg_pipeline_tests.bench.rounds import in_turn
from agg_pipeline_tests.conftest import open_gateway

BEGIN = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
DAYS = 365
END = BEGIN + dt.timedelta(days=DAYS)
ROUNDS = 5
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

# What somebody would type who wants these rows, once, of a symbol that has none: valid source bars only, sums in order
# of time, so that every bar comes out as ours does. No lease, no cursor, no late bars, no steps.
PLAIN = """insert into derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap,
             trade_count, is_partial, source_timeframe, source_candles, expected_candles, quality_score, raw)
           select canonical_symbol, '{target}', start, open, high, low, close, vol, vwap, trade_count, is_partial,
                  '{source}', found, {expected},
                  case when found >= {expected} then 2 when found * 10 >= {expected} * 8 then 1
                       when found * 10 >= {expected} * 6 then 0 else -1 end,
                  jsonb_build_object('source_timeframe', '{source}', 'from', start, 'to', start + interval '{length}')
             from (select canonical_symbol, start, (array_agg(open order by ts_utc))[1] as open, max(high) as high,
                          min(low) as low, (array_agg(close order by ts_utc))[count(*)] as close,
                          sum(vol order by ts_utc) as vol,
                          sum(vwap * vol order by ts_utc)
                          / nullif(sum(vol order by ts_utc) filter (where vwap is not null), 0) as vwap,
                          sum(trade_count) as trade_count, bool_or(is_partial) as is_partial, count(*) as found
                     from (select *, date_bin('{length}', ts_utc, '2001-01-01Z') as start from agg_source_bars
                            where is_base = ('{source}' = '1m') and timeframe = '{source}' and canonical_symbol = %s
                              and reject_reason is null offset 0) s
                    group by 1, 2) bar
            where found * 10 > {expected} * 5"""
ALL_OF_IT = """select md5(string_agg(concat_ws('|', timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
                                              is_partial, source_timeframe, source_candles, expected_candles,
                                              quality_score, raw), '' order by timeframe, ts_utc)), count(*)
                 from derived_data_bars where canonical_symbol = %s and deleted_at is null"""


@pytest.mark.bench
def test_a_year_in_one_run_against_plain_sql(stack: Stack, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """525,600 rows; another symbol each round and side, so that all read what nobody has read before.

    Five INSERT ... SELECT into the same table, which keeps its indexes, foreign key and triggers. ``fill`` is what the
    run does over REST, without Dagster; ``run`` is all of it.
    """
    for name, value in (stack.environment() | {"ENV_NAME": "prod"}).items():
        monkeypatch.setenv(name, value)
    filled, ran, plainly = [[f"S{kind * (ROUNDS + 1) + n + 1}" for n in range(ROUNDS + 1)] for kind in range(3)]
    gateway = open_gateway(stack, direct=stack.api_url is None)
    with served_market(stack, 3 * (ROUNDS + 1), begin=BEGIN) as opened, dg.DagsterInstance.ephemeral() as instance:
        opened.load(END, noted=False)
        opened.settle()
        job = build_definitions().resolve_implicit_global_asset_job_def()

        def by_fill(symbol: str) -> float:
            began = time.perf_counter()
            done = backfill_symbol(gateway, symbol, list(LADDER), BEGIN, END, settings=load_settings(), owner="bench")
            spent = time.perf_counter() - began
            assert done.failed is None, done.failed
            opened.settle()
            return spent

        def by_run(symbol: str) -> float:
            began = time.perf_counter()
            result = job.execute_in_process(
                run_config=QUIET | {"ops": {"backfill_bars": {"config": {"symbols": [symbol]}}}},
                asset_selection=[bars_key(target.value) for target in LADDER],
                tags={
                    "dagster/asset_partition_range_start": BEGIN.date().isoformat(),
                    "dagster/asset_partition_range_end": (END - dt.timedelta(days=1)).date().isoformat(),
                },
                instance=instance,
            )
            spent = time.perf_counter() - began
            assert result.success, "the run failed"
            opened.settle()
            return spent

        def by_plain(symbol: str) -> float:
            spent = _plain(opened, symbol)
            opened.settle()
            return spent

        sides = {
            "fill": lambda n: by_fill(filled[n]),
            "run": lambda n: by_run(ran[n]),
            "plain": lambda n: by_plain(plainly[n]),
        }
        seconds = in_turn(sides, rounds=ROUNDS)
        same = plainly[0]
        found = _all_of_it(opened.db, same)
        opened.db.execute("delete from derived_data_bars where canonical_symbol = %s", [same])
        by_fill(same)
        ours = _all_of_it(opened.db, same)
        assert found == ours, "not the same bars"
        windows = ours[1]
        assert windows > 100_000, "no work is fast"
    gateway.close()
    for bench, side in (("year_fill", "fill"), ("year_backfill", "run")):
        report(
            bench, statistics.median(seconds[side]), "s", baseline=statistics.median(seconds["plain"]),
            values=seconds[side], baselines=seconds["plain"],
        )  # fmt: skip
    # The predecessor: 100 windows per task every five minutes.
    pace = statistics.median(windows / s for s in seconds["run"])
    report("year_backfill_pace", pace, "windows/s", baseline=500 / 300, ratio=pace / (500 / 300))


def _plain(market: Market, symbol: str) -> float:
    began = time.perf_counter()
    for target, source in LADDER.items():
        query = PLAIN.format(
            target=target.value, source=source.value, length=f"{target.length.total_seconds():.0f} seconds",
            expected=target.length // source.length,
        )  # fmt: skip
        market.db.execute(query.encode(), [symbol])
    return time.perf_counter() - began


def _all_of_it(db: psycopg.Connection, symbol: str) -> tuple[str, int]:
    found = db.execute(ALL_OF_IT, [symbol]).fetchone()
    assert found is not None
    return found[0], found[1]
