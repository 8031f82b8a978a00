"""A year of 1m bars of one symbol, backfilled to all five timeframes in one run, against the same rows by plain SQL."""

import datetime as dt
import statistics
import time

import dagster as dg
import pytest

from agg_pipeline.definitions import build_definitions
from agg_pipeline.local import Stack
from agg_pipeline.timeframes import LADDER
from agg_pipeline_tests.bench.conftest import Report
from agg_pipeline_tests.bench.market import served_market
from agg_pipeline_tests.bench.rounds import in_turn

BEGIN = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)
DAYS = 365
ROUNDS = 5
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

PLAIN = """insert into plain (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, vwap, trade_count,
                              source, source_timeframe, source_candles, expected_candles, quality_score, raw)
           select canonical_symbol, '{target}', date_bin('{length}', ts_utc, '2001-01-01Z') as start,
                  (array_agg(open order by ts_utc))[1], max(high), min(low),
                  (array_agg(close order by ts_utc desc))[1], sum(vol),
                  sum(vwap * vol) / nullif(sum(vol) filter (where vwap is not null), 0), sum(trade_count), 'agg',
                  '{source}', count(*), count(*), 2, '{{}}'
             from {table} where timeframe = '{source}' and canonical_symbol = %s group by 1, 2, start"""


@pytest.mark.bench
def test_a_year_in_one_run_against_plain_sql(stack: Stack, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """525,600 rows; another symbol a round. Plain SQL: five INSERT ... SELECT into a table with the same indexes."""
    for name, value in (stack.environment() | {"ENV_NAME": "prod", "FIRST_DAY": str(BEGIN.date())}).items():
        monkeypatch.setenv(name, value)
    with served_market(stack, ROUNDS + 1, begin=BEGIN) as opened, dg.DagsterInstance.ephemeral() as instance:
        opened.load(BEGIN + dt.timedelta(days=DAYS), noted=False)
        opened.db.execute("create table plain (like derived_data_bars including all)")
        opened.settle()
        job = build_definitions().resolve_implicit_global_asset_job_def()
        last_day = (BEGIN + dt.timedelta(days=DAYS - 1)).date().isoformat()

        def run(n: int) -> float:
            began = time.perf_counter()
            result = job.execute_in_process(
                run_config=QUIET | {"ops": {"backfill_bars": {"config": {"symbols": [f"S{n + 1}"]}}}},
                asset_selection=[dg.AssetKey(f"bars_{target.value}") for target in LADDER],
                tags={
                    "dagster/asset_partition_range_start": BEGIN.date().isoformat(),
                    "dagster/asset_partition_range_end": last_day,
                },
                instance=instance,
            )
            spent = time.perf_counter() - began
            assert result.success, "the run failed"
            opened.settle()
            return spent

        def plain(n: int) -> float:
            began = time.perf_counter()
            for target, source in LADDER.items():
                table = "data_bars" if source == "1m" else "plain"
                length = f"{target.length.total_seconds():.0f} seconds"
                query = PLAIN.format(target=target.value, length=length, source=source.value, table=table)
                opened.db.execute(query.encode(), [f"S{n + 1}"])
            spent = time.perf_counter() - began
            opened.db.execute("vacuum analyze plain")
            return spent

        seconds = in_turn({"run": run, "plain": plain}, rounds=ROUNDS)
        counts = "select timeframe, count(*) from {} where deleted_at is null group by 1 order by 1"
        ours, theirs = (opened.db.execute(counts.format(t)).fetchall() for t in ("derived_data_bars", "plain"))
        opened.db.execute("drop table plain")
        assert ours == theirs, "not the same bars"
        assert sum(n for _, n in ours) > 100_000 * ROUNDS, "no work is fast"
    report(
        "year_backfill", statistics.median(seconds["run"]), "s", baseline=statistics.median(seconds["plain"]),
        values=seconds["run"], baselines=seconds["plain"],
    )  # fmt: skip
    # The predecessor: 100 windows per task every five minutes.
    pace = statistics.median(sum(n for _, n in ours) / (ROUNDS + 1) / s for s in seconds["run"])
    report("year_backfill_pace", pace, "windows/s", baseline=500 / 300, ratio=pace / (500 / 300))
