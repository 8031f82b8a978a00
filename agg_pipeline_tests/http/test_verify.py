"""agg-pipeline verify and rebuild: they find exactly the wrong bars, and correct them."""

import datetime as dt
import itertools
import random
import re

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.ingest.demo_bars import generate
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.verification import verify_page
from agg_pipeline.reading.pages import PAGE, pages
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.ticking import tick_until_quiet

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
DAYS = 45  # more than a page
NOW = BEGIN + dt.timedelta(days=DAYS, hours=12)
COLUMNS = {"canonical_symbol": "text", "ts_utc": "timestamptz", "open": "float8", "high": "float8", "low": "float8",
           "close": "float8", "vol": "float8", "vwap": "float8", "trade_count": "int"}  # fmt: skip


def fill(db: psycopg.Connection, gateway: AggGateway, symbol: str, base: str = "1m", days: int = DAYS) -> None:
    gateway.register_asset(symbol, start=BEGIN, base_timeframe=base)
    bars = generate(symbol, BEGIN, BEGIN + dt.timedelta(days=days)).astype(object)
    rows = bars[list(COLUMNS)].where(bars.notna(), None).itertuples(index=False)
    with (
        db.cursor() as cursor,
        cursor.copy(f"copy data_bars ({', '.join(COLUMNS)}, timeframe, source) from stdin") as copy,
    ):
        for row in rows:
            copy.write_row([*row, base, "test"])


@pytest.fixture
def target(request: pytest.FixtureRequest, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands talk to the session's stack, over REST unless a test asks for the other transport as well."""
    transport = getattr(request, "param", "rest")
    if transport == "rest" and stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
    environment = stack.environment() | ({"SUPABASE_URL": stack.dsn} if transport == "postgres" else {})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def three_days(stack: Stack, clean: psycopg.Connection) -> psycopg.Connection:
    """Three days of a 24x7 coin and of a native 5m index, built at every level."""
    gateway = open_gateway(stack, direct=True)
    fill(clean, gateway, "BTCUSD", days=3)
    fill(clean, gateway, "DE40", "5m", days=3)
    tick_until_quiet(gateway, NOW, max_windows=10_000)
    gateway.close()
    return clean


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def found(result: Result) -> set[tuple[str, ...]]:
    """(symbol, timeframe, time, field or problem) of every line that names a bar."""
    lines = re.findall(r"^(\S+) (\w+) (\d{4}-\d\d-\d\d \d\d:\d\d) (\w+)", result.stdout, re.M)
    return set(lines)


@pytest.mark.parametrize("target", ["rest", "postgres"], indirect=True)
def test_right_bars_have_no_differences(target: None, three_days: psycopg.Connection) -> None:
    counts = assert_equals_oracle(three_days)
    result = run("verify", "--all")
    assert result.exit_code == 0, result.output
    source_bars = three_days.execute("select count(*) from data_bars").fetchone()[0]  # type: ignore[index]
    said = f"{sum(counts.values()):,} bars of 2 symbols recomputed from {source_bars:,} source bars"
    assert said in result.stdout
    assert ": 0 differences." in result.stdout


def test_random_damage_is_found_in_every_field_and_corrected(target: None, three_days: psycopg.Connection) -> None:
    rng = random.Random(5)
    bars = three_days.execute(
        """select id, canonical_symbol, timeframe, to_char(ts_utc at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
             from derived_data_bars order by id"""
    ).fetchall()
    damages = {
        ("high",): "high = high * (1 + 1e-9)",
        ("vol", "is_partial"): "vol = vol + 1, is_partial = not is_partial",
        ("vwap", "trade_count"): "vwap = coalesce(vwap * (1 + 1e-9), 1), trade_count = coalesce(trade_count, 0) + 1",
        ("quality_score", "source_candles"): "quality_score = quality_score - 3, source_candles = source_candles - 1",
        ("missing",): "deleted_at = now()",
    }
    wrong = set()
    for bar_id, *name in rng.sample(bars, 60):
        fields, assignment = rng.choice(list(damages.items()))
        three_days.execute(f"update derived_data_bars set {assignment} where id = %s", [bar_id])
        wrong |= {(*name, field) for field in fields}
    three_days.execute(
        """insert into derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close)
           values ('DE40', '1h', '2026-01-07T03:00Z', 1, 1, 1, 1), ('BTCUSD', '5m', '2026-01-12T00:02Z', 1, 1, 1, 1),
                  ('BTCUSD', '1d', '2026-01-25Z', 1, 1, 1, 1)"""
    )
    wrong |= {("DE40", "1h", "2026-01-07 03:00", "surplus"), ("BTCUSD", "5m", "2026-01-12 00:02", "surplus"),
              ("BTCUSD", "1d", "2026-01-25 00:00", "surplus")}  # fmt: skip
    result = run("verify", "--all")
    assert (result.exit_code, found(result)) == (1, wrong)
    three_days.execute("delete from derived_data_bars where ts_utc > '2026-01-12Z'")  # beyond what is built

    plan = run("rebuild", "BTCUSD", "5m")
    assert "repeat with --do" in plan.stdout
    assert found(run("verify", "--all")) == {bar for bar in wrong if bar[2] < "2026-01-12"}, "a plan writes nothing"
    for symbol, timeframe in (("BTCUSD", "5m"), ("DE40", "15m"), ("DE40", "1h")):
        result = run("rebuild", symbol, timeframe, "--do")
        assert result.exit_code == 0, result.output
    result = run("verify", "--all")
    assert result.exit_code == 0, result.output
    assert_equals_oracle(three_days)


def test_invalidated_windows_are_marked(target: None, three_days: psycopg.Connection) -> None:
    three_days.execute(
        "update data_bars set high = 1e9 where canonical_symbol = 'BTCUSD' and ts_utc = '2026-01-06T10:07Z'"
    )
    three_days.execute("update derived_data_bars set low = low - 1 where timeframe = '4h' and ts_utc = '2026-01-07Z'")
    result = run("verify", "--all", "--symbol", "BTCUSD")
    waiting = [line for line in result.stdout.splitlines() if line.endswith("(invalidated)")]
    assert result.exit_code == 1
    assert len(waiting) == 5, result.stdout
    assert "6 differences, 5 of them in invalidated windows" in result.stdout


def test_only_selected_bars_are_verified(target: None, three_days: psycopg.Connection) -> None:
    three_days.execute(
        "update derived_data_bars set high = high + 1 where canonical_symbol = 'BTCUSD' and timeframe <> '1d'"
    )
    result = run("verify", "--symbol", "BTCUSD", "--timeframe", "1h", "--timeframe", "4h",
                 "--from", "2026-01-06T10:00", "--to", "2026-01-06T13:00Z")  # fmt: skip
    assert found(result) == {
        ("BTCUSD", timeframe, f"2026-01-06 {hour}:00", "high")
        for timeframe, hour in [("1h", 10), ("1h", 11), ("1h", 12), ("4h", 12)]
    }
    assert run("verify", "--symbol", "BTCUSD", "--timeframe", "1d").exit_code == 0


def test_an_unknown_symbol_or_time_is_one_line(target: None, three_days: psycopg.Connection) -> None:
    for arguments, said in {
        ("verify", "--symbol", "NOPE"): "There are no tasks of NOPE. There are: BTCUSD, DE40.",
        ("verify", "--from", "yesterday"): "--from yesterday is not a time",
        ("verify", "--timeframe", "7m"): "unknown timeframe '7m'; there are 1m, 5m",
        ("rebuild", "NOPE", "5m"): "There are no tasks of NOPE",
        ("rebuild", "DE40", "5m"): "there is no task DE40/5m",
    }.items():
        result = run(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
        assert said in result.stderr


def test_history_longer_than_a_page_is_compared_once(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    fill(clean, one_gateway, "DE40", "5m")
    tick_until_quiet(one_gateway, NOW, max_windows=100_000)
    counts = assert_equals_oracle(clean)
    end = BEGIN + dt.timedelta(days=DAYS)
    verifications = [
        verify_page(one_gateway, "DE40", page, begin=BEGIN, end=end, timeframes=()) for page in pages(BEGIN, end)
    ]
    assert len(verifications) == 2
    assert sum(one.bars for one in verifications) == sum(counts.values())
    assert all(one.differences.empty for one in verifications)


def test_pages_hold_whole_days_and_every_window_once() -> None:
    begin, end = BEGIN + dt.timedelta(hours=5), BEGIN + dt.timedelta(days=61, minutes=1)
    cuts = pages(begin, end)
    assert cuts[0][0] == BEGIN
    assert cuts[-1][1] == BEGIN + dt.timedelta(days=62)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(cuts))
    assert all(stop - start <= PAGE for start, stop in cuts)
    assert all(stop.time() == dt.time(0) for _, stop in cuts)
    assert pages(begin, begin) == []


def test_a_timeframe_that_is_switched_off_is_not_compared(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    clean.execute(
        """insert into core_asset_registry_all (canonical_symbol, base_timeframe, active, calc_15m, calc_4h)
           values ('BTCUSD', '1m', true, false, false)"""
    )
    fill(clean, one_gateway, "BTCUSD", days=2)
    tick_until_quiet(one_gateway, NOW, max_windows=10_000)
    [page] = pages(BEGIN, BEGIN + dt.timedelta(days=2))
    verification = verify_page(one_gateway, "BTCUSD", page, begin=BEGIN, end=NOW, timeframes=())
    assert verification.differences.empty
    assert verification.bars == sum(2 * 1440 // Timeframe(name).minutes for name in ("5m", "1h", "1d")), verification
