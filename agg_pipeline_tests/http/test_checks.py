"""Checks on a real database: they pass on a healthy market, and each fails on the errors it is for."""

import datetime as dt
import random

import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.quality.check_results import CHECKS, RAW_CHECKS, CheckResult
from agg_pipeline.quality.checks import check_bars
from agg_pipeline_tests.http.test_verify import BEGIN, fill
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sessions import follow
from agg_pipeline_tests.ticking import tick_until_quiet

DAY = dt.timedelta(days=1)
TUESDAY = BEGIN + DAY
Found = set[tuple[str, str, str]]


def ask(gateway: AggGateway, symbol: str = "BTCUSD", days: int = 2) -> list[CheckResult]:
    return check_bars(gateway, symbol, begin=BEGIN, end=BEGIN + days * DAY)


def findings(results: list[CheckResult]) -> Found:
    """Of windows of derived bars; what is wrong with raw bars, or with all of a task, is said elsewhere."""
    derived = [result for result in results if not result.is_raw and result.check not in ("health", "coverage")]
    return {(r.check, r.timeframe, f"{f.window_utc:%d %H:%M}") for r in derived for f in r.findings}


def damage(db: psycopg.Connection, *statements: str) -> None:
    """Past the triggers, so that no window is marked to be built again: what a fault of the pipeline would leave."""
    with db.transaction():
        db.execute("set local session_replication_role = replica")
        for statement in statements:
            db.execute(statement)


@pytest.fixture
def two_days(one_gateway: AggGateway, clean: psycopg.Connection) -> AggGateway:
    """Monday and Tuesday of a coin, built at every level."""
    fill(clean, one_gateway, "BTCUSD", days=2)
    tick_until_quiet(one_gateway, BEGIN + 2 * DAY + dt.timedelta(hours=12), max_windows=10_000)
    return one_gateway


def test_a_healthy_market_is_green(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    """A weekend, quiet hours, an outage, bars that come late, go or are wrong, windows of every quality."""
    for symbol, base in (("EURUSD", "1m"), ("BTCUSD", "1m"), ("DE40", "5m")):
        fill(clean, one_gateway, symbol, base, days=7)
    rng = random.Random(3)
    some = [row[0] for row in clean.execute("select id from data_bars order by id").fetchall() if rng.random() < 0.2]
    late, wrong, gone = some[::2], some[1::4], some[3::4]
    clean.execute("create temp table late as select * from data_bars where id = any (%s)", [late])
    clean.execute("delete from data_bars where id = any (%s)", [late])
    now = BEGIN + dt.timedelta(days=7, hours=12)
    tick_until_quiet(one_gateway, now, max_windows=10_000)
    clean.execute("insert into data_bars overriding system value select * from late")
    clean.execute("update data_bars set high = low - 1 where id = any (%s)", [wrong])
    clean.execute("delete from data_bars where id = any (%s)", [gone])
    clean.execute("delete from data_bars where extract(hour from ts_utc) = 10 and extract(minute from ts_utc) < 25")

    follow(clean, "EURUSD", "fx_24x5")
    between = [result for symbol in ("EURUSD", "BTCUSD", "DE40") for result in ask(one_gateway, symbol, days=8)]
    between = [result for result in between if result.check != "no_gaps"]
    assert findings(between) == set(), "invalidated windows are no findings"
    assert sum(result.invalidated for result in between) > 1000
    tick_until_quiet(one_gateway, now, max_windows=10_000)
    counts = assert_equals_oracle(clean)
    qualities = clean.execute(
        "select distinct quality_score from derived_data_bars where deleted_at is null"
    ).fetchall()
    assert {score for (score,) in qualities} == {-1, 0, 1, 2}
    for symbol in ("EURUSD", "BTCUSD", "DE40"):
        results = ask(one_gateway, symbol, days=8)
        assert {result.check for result in results} == {*CHECKS, *RAW_CHECKS}
        raw, right_table, no_duplicates = (result for result in results if result.is_raw)
        assert (raw.check, raw.passed, raw.severity) == ("prices_sane", False, "warn")
        assert (right_table.passed, no_duplicates.passed) == (True, True)
        results = [result for result in results if not result.is_raw and result.check not in ("health", "coverage")]
        gaps = [result for result in results if result.check == "no_gaps"]
        assert {result.severity for result in gaps if not result.passed} == {"warn"}
        results = [result for result in results if result.check != "no_gaps"]
        assert findings(results) == set()
        for result in results:
            assert (result.passed, result.found, result.invalidated, result.symbol) == (True, 0, 0, symbol)
            assert result.checked == (1 if result.check == "lag" else counts[symbol, result.timeframe]), result


TEN = "canonical_symbol = 'BTCUSD' and ts_utc = '2026-01-06T10:00Z'"
TEN_FIVE = "canonical_symbol = 'BTCUSD' and ts_utc = '2026-01-06T10:05Z' and timeframe = '5m'"


ERRORS = {
    f"update derived_data_bars set high = high * 1.1 where {TEN_FIVE}": {
        ("matches_recomputation", "5m", "06 10:05"),
        ("parents_agree", "15m", "06 10:00"), ("parents_agree", "1h", "06 10:00"),
    },
    f"update derived_data_bars set deleted_at = now() where {TEN_FIVE}": {
        ("matches_recomputation", "5m", "06 10:05"),
        ("no_gaps", "15m", "06 10:05"), ("no_gaps", "1h", "06 10:05"),
        ("parents_agree", "15m", "06 10:00"), ("parents_agree", "1h", "06 10:00"),
    },
    f"delete from derived_data_bars where {TEN} and timeframe = '1h'": {
        ("matches_recomputation", "1h", "06 10:00"),
        ("no_gaps", "4h", "06 10:00"), ("no_gaps", "1d", "06 10:00"),
        ("parents_agree", "4h", "06 08:00"), ("parents_agree", "1d", "06 00:00"),
    },
    "delete from derived_data_bars where timeframe = '1d' and ts_utc = '2026-01-06Z'": {
        ("matches_recomputation", "1d", "06 00:00"),
    },
    """delete from data_bars where ts_utc >= '2026-01-06T10:05Z' and ts_utc < '2026-01-06T10:10Z'""": {
        ("no_gaps", "5m", "06 10:05"), ("matches_recomputation", "5m", "06 10:05"),
        ("matches_recomputation", "15m", "06 10:00"), ("matches_recomputation", "1h", "06 10:00"),
        ("matches_recomputation", "4h", "06 08:00"), ("matches_recomputation", "1d", "06 00:00"),
    },
    f"update derived_data_bars set vol = vol + 1, trade_count = null where {TEN} and timeframe = '1h'": {
        ("matches_recomputation", "1h", "06 10:00"), ("parents_agree", "1h", "06 10:00"),
        ("parents_agree", "4h", "06 08:00"), ("parents_agree", "1d", "06 00:00"),
    },
    "update derived_data_bars set high = low - 1 where timeframe = '4h' and ts_utc = '2026-01-06T08:00Z'": {
        ("prices_sane", "4h", "06 08:00"), ("matches_recomputation", "4h", "06 08:00"),
        ("parents_agree", "4h", "06 08:00"),
    },
    "update derived_data_bars set vol = 'NaN' where timeframe = '1d' and ts_utc = '2026-01-06Z'": {
        ("prices_sane", "1d", "06 00:00"), ("matches_recomputation", "1d", "06 00:00"),
        ("parents_agree", "1d", "06 00:00"),
    },
    f"update derived_data_bars set vwap = high * 1.01 where {TEN_FIVE}": {
        ("prices_sane", "5m", "06 10:05"), ("matches_recomputation", "5m", "06 10:05"),
    },
    f"update derived_data_bars set open = close * 1.6, high = close * 1.6 where {TEN} and timeframe = '15m'": {
        ("prices_sane", "15m", "06 10:00"), ("matches_recomputation", "15m", "06 10:00"),
        ("parents_agree", "15m", "06 10:00"),
    },
    """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
       select 'BTCUSD', '1m', '2026-01-07Z'::timestamptz + n * interval '1 minute', 1, 1, 1, 1, 'test'
         from generate_series(0, 24) n""": {("lag", "5m", "07 00:00")},
}  # fmt: skip
CASES = list(ERRORS.items())


@pytest.mark.parametrize(("broken", "expected"), sampled(CASES, CASES[1::3]))
def test_each_error_fails_its_own_checks(
    two_days: AggGateway, clean: psycopg.Connection, broken: str, expected: Found
) -> None:
    damage(clean, broken)
    results = ask(two_days)
    assert findings(results) == expected
    for result in results:
        for finding in result.findings:
            said = f"{finding.symbol} {finding.timeframe} {finding.window_utc:%Y-%m-%d %H:%M} UTC: "
            assert str(finding).startswith(said)
            assert finding.symbol == "BTCUSD"
    warned = ("prices_sane", "no_gaps", "health")
    assert all(result.severity == "error" for result in results if result.check not in warned)


def test_missing_bars_of_a_whole_symbol_are_found(two_days: AggGateway, clean: psycopg.Connection) -> None:
    damage(clean, "update derived_data_bars set deleted_at = now()")
    found = {(r.check, r.timeframe): r.found for r in ask(two_days) if r.found}
    assert (found["matches_recomputation", "5m"], found["matches_recomputation", "1d"]) == (576, 2)
    damage(clean, "update derived_data_bars set deleted_at = null", "delete from data_bars")
    found = {(r.check, r.timeframe): r.found for r in ask(two_days) if r.found}
    assert found["matches_recomputation", "5m"] == 576


def test_a_paused_task_may_lag(two_days: AggGateway, clean: psycopg.Connection) -> None:
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
           select 'BTCUSD', '1m', '2026-01-08Z'::timestamptz + n * interval '1 minute', 1, 1, 1, 1, 'test'
             from generate_series(0, 24) n"""
    )
    assert findings(ask(two_days)) == {("lag", "5m", "07 00:00")}
    two_days.pause("BTCUSD", "5m", reason="test", actor="test")
    assert all(result.passed for result in ask(two_days))
    with pytest.raises(ValueError, match="there are no tasks of NOPE"):
        ask(two_days, "NOPE")


def told(results: list[CheckResult], check: str) -> list[str]:
    return [f"{f.severity}: {f}" for result in results if result.check == check for f in result.findings]


def test_misplaced_rows_are_reported(two_days: AggGateway, clean: psycopg.Connection) -> None:
    """A feed writes 1h bars beside its 1m bars, another into the derived table; a third is off by seconds."""
    assert told(ask(two_days), "right_table") == told(ask(two_days), "no_duplicates") == []
    copy = """insert into {table} (canonical_symbol, ts_utc, open, high, low, close, timeframe, source)
              select canonical_symbol, ts_utc + interval '{seconds} s', open, high, low, close, '{timeframe}', 'test'
                from data_bars where timeframe = '1m' and ts_utc >= '2026-01-06T10:00Z' and ts_utc < '{until}Z'"""
    damage(
        clean,
        copy.format(table="data_bars", timeframe="1h", seconds=0, until="2026-01-06T10:01"),
        copy.format(table="derived_data_bars", timeframe="1m", seconds=0, until="2026-01-06T10:03"),
        "update derived_data_bars set deleted_at = now() where timeframe = '1m' and ts_utc = '2026-01-06T10:02Z'",
        copy.format(table="data_bars", timeframe="1m", seconds=7, until="2026-01-06T10:03"),
    )
    results = ask(two_days)
    assert told(results, "right_table") == [
        "warn: BTCUSD 1h 2026-01-06 10:00 UTC: 1 1h rows of data_bars are read by no task of the symbol (by 1)",
        "warn: BTCUSD 1m 2026-01-06 10:00 UTC: 2 1m rows of derived_data_bars are read by no task of the symbol (by 2)",
    ]
    assert told(results, "no_duplicates") == [
        "warn: BTCUSD 1m 2026-01-06 10:00 UTC: 3 1m rows of data_bars are there more than once (by 3)"
    ]


def test_coverage_and_health_are_checked(two_days: AggGateway, clean: psycopg.Connection) -> None:
    results = ask(two_days)
    assert told(results, "coverage") == []
    assert [result.severity for result in results if result.check == "health" and not result.passed] == ["warn"]
    (silent,) = told(results, "health")
    assert silent.startswith("warn: BTCUSD 5m 2026-01-07 00:00 UTC: waiting for source: no 1m bar since 2026-01-06 23:")
    damage(
        clean,
        "delete from data_bars where ts_utc >= '2026-01-05T12:00Z' and ts_utc < '2026-01-05T17:00Z'",
        "update data_agg_state set hard_fail_streak = 1, last_error = 'boom' where timeframe = '1h'",
        "update data_agg_state set enabled = false where timeframe = '5m'",
    )
    results = ask(two_days)
    assert told(results, "coverage") == [
        "warn: BTCUSD 5m 2026-01-05 00:00 UTC: 300 of 2,880 source bars are missing from here on (by 0.1042)"
    ]
    assert told(results, "health") == [
        "error: BTCUSD 1h 2026-01-07 00:00 UTC: failed: 1 failure at the window of 2026-01-07 00:00. boom"
    ]
