"""A catch-up that exceeds a limit is split into smaller calls: real statement timeouts and real locks."""

import contextlib
import datetime as dt
import logging
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import Lease
from agg_pipeline.database.rebuilding import rebuild_steps
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack
from agg_pipeline.errors import TransientError
from agg_pipeline_tests.http.test_gateway import BEGIN, NOW, bars
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import settle

SYMBOLS = ["AAA", "BBB", "CCC", "DDD", "EEE"]
SLOW = """
create function public.slow_bar() returns trigger language plpgsql as $$ begin perform pg_sleep(%s); return new; end $$;
create trigger slow_bar before insert on derived_data_bars for each row execute function slow_bar();
"""
FAST = "drop trigger if exists slow_bar on derived_data_bars; drop function if exists public.slow_bar"

PATIENCE = "alter function public.catchup_aggregation_batch set lock_timeout = '%s'"  # the migration says 4s


@pytest.fixture
def impatient(stack: Stack, clean: psycopg.Connection) -> Iterator[AggGateway]:
    """A gateway whose statements may take 0.4 s, and wait for a lock 0.1 s."""
    clean.execute(PATIENCE % "100ms")
    with contextlib.closing(
        AggGateway(open_transport(f"{stack.dsn}&options=-c%20statement_timeout%3D400", ""))
    ) as gateway:
        yield gateway
    clean.execute(FAST)
    clean.execute(PATIENCE % "4s")


def leases(gateway: AggGateway, *symbols: str) -> list[Lease]:
    """Leases on the 5m tasks of assets with an hour of bars: twelve windows each."""
    for symbol in symbols:
        gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
        gateway.load_bars(bars(symbol), timeframe="1m", source="test")
    tasks = [Task(symbol=symbol, timeframe="5m") for symbol in symbols]
    started = gateway.start(tasks, now=NOW, owner="test", lease_seconds=900)
    return [Lease(symbol=s.symbol, timeframe=s.timeframe, lease_token=s.lease_token) for s in started]


def sizes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().split(" Trying ")[1] for record in caplog.records if "Trying " in record.getMessage()]


def test_a_statement_timeout_halves_the_windows_at_once_and_what_is_left_comes_next(
    impatient: AggGateway, clean: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agg_pipeline")
    held = leases(impatient, "AAA")
    clean.execute(SLOW % 0.1)  # twelve are 1.2 s, six 0.6, three 0.3
    [result] = impatient.catch_up(held, now=NOW, max_windows=12, version=1)
    assert sizes(caplog) == ["1 call(s) of at most 6 windows a task.", "1 call(s) of at most 3 windows a task."]
    assert (result.bars_created, result.has_more, result.frontier) == (3, True, BEGIN + dt.timedelta(minutes=15))
    clean.execute(FAST)
    [result] = impatient.catch_up(held, now=NOW, max_windows=12, version=1)
    assert (result.bars_created, result.has_more) == (9, False)


def test_many_tasks_of_one_window_are_divided_and_answer_in_order(
    impatient: AggGateway, clean: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    held = leases(impatient, *SYMBOLS)
    clean.execute(SLOW % 0.15)  # five are 0.75 s, two and three at most 0.45, one 0.15
    results = impatient.catch_up(held, now=NOW, max_windows=1, version=1)
    assert [(r.symbol, r.error, r.bars_created) for r in results] == [(symbol, None, 1) for symbol in SYMBOLS]
    assert sizes(caplog) == ["2 call(s) of at most 1 windows a task."] * 2


def test_a_timeout_of_a_single_window_is_raised_without_a_retry(
    impatient: AggGateway, clean: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agg_pipeline")
    held = leases(impatient, "AAA")
    clean.execute(SLOW % 5)
    with pytest.raises(TransientError) as failed:
        impatient.catch_up(held, now=NOW, max_windows=1, version=1)
    assert failed.value.code == "57014"
    assert not caplog.records


@pytest.mark.parametrize(
    ("taken", "limit", "code"), [("CCC", "100ms", "55P03"), ("AAA", "100ms", "55P03"), ("EEE", "0", "57014")]
)
def test_a_locked_row_fails_its_own_task_only(
    impatient: AggGateway,
    stack: Stack,
    clean: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    taken: str,
    limit: str,
    code: str,
) -> None:
    """After lock_timeout or, without one, after statement_timeout."""
    monkeypatch.setattr("agg_pipeline.database.transport.retries.JITTER_S", 0.0)
    held = leases(impatient, *SYMBOLS)
    clean.execute(PATIENCE % limit)
    with psycopg.connect(stack.dsn) as holder:
        holder.execute("select from data_agg_state where canonical_symbol = %s for update", [taken])
        results = impatient.catch_up(held, now=NOW, max_windows=3, version=1)
        assert [r.symbol for r in results] == SYMBOLS
        assert {r.symbol: r.error.sqlstate for r in results if r.error} == {taken: code}
        assert all(r.bars_created > 0 for r in results if not r.error)


def test_a_single_task_with_a_locked_row_is_retried_then_raised(
    impatient: AggGateway, stack: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agg_pipeline")
    monkeypatch.setattr("agg_pipeline.database.transport.retries.JITTER_S", 0.0)
    held = leases(impatient, "AAA")
    with psycopg.connect(stack.dsn) as holder:
        holder.execute("select from data_agg_state where canonical_symbol = 'AAA' for update")
        with pytest.raises(TransientError) as failed:
            impatient.catch_up(held, now=NOW, max_windows=12, version=1)
    assert failed.value.code == "55P03"
    assert len(caplog.records) == 3
    [result] = impatient.catch_up(held, now=NOW, max_windows=12, version=1)
    assert result.bars_created == 12


def test_a_statement_timeout_halves_the_range_of_a_rebuild_and_of_a_search_for_damage(
    impatient: AggGateway, clean: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    four_days = [BEGIN + n * dt.timedelta(days=1) for n in range(5)]
    impatient.register_asset("AAA", start=BEGIN, base_timeframe="5m")
    clean.execute(
        """insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source)
           select 'AAA', '5m', %s + m * interval '5 minutes', 1, 1 + m, 1, 1, 1, 't' from generate_series(0, 1151) m""",
        [BEGIN],
    )
    settle(clean, four_days[4] + dt.timedelta(days=1))
    hourly = Task(symbol="AAA", timeframe="1h")
    clean.execute("update derived_data_bars set high = high + 1 where timeframe = '1h'")
    assert impatient.find_damage(hourly, four_days[0], four_days[4]).kinds == {"different": 96}

    clean.execute(
        SLOW % 0.004
    )  # 24 + 6 + 1 bars a day: four days take 0.5 s at least, one 0.12 s and what the machine adds
    first = impatient.rebuild(hourly, four_days[0], four_days[4], dry_run=False)
    assert first.has_more
    assert first.next_from_utc in four_days[1:3]
    list(rebuild_steps(impatient, hourly, first.next_from_utc, four_days[4], dry_run=False))
    assert caplog.records[0].getMessage().endswith(f" Trying AAA/1h until {four_days[2]}.")
    clean.execute(FAST)
    settle(clean, four_days[4] + dt.timedelta(days=1))
    assert assert_equals_oracle(clean)["AAA", "1h"] == 96
