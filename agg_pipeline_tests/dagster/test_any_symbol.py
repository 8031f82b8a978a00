"""A name, rows of a file and of the table, a state: drawn for one symbol, from the file to Dagster's events.

The others tick and are backfilled, equal to the oracle, and every command ends with a documented exit code.
"""

import csv
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agg_pipeline.cli import app
from agg_pipeline.definitions import build_definitions
from agg_pipeline_tests.conftest import TABLES
from agg_pipeline_tests.dagster.test_backfill import backfill
from agg_pipeline_tests.dagster.test_job import run
from agg_pipeline_tests.impossible import TIMEFRAMES, plant, raw_rows, states, times
from agg_pipeline_tests.names import symbols
from agg_pipeline_tests.oracle import assert_equals_oracle

GOOD = ["AAA", "ZZZ"]
DAY = "2026-01-05"
MANY = 100
HEADER = ["symbol", "ts_utc", "open", "high", "low", "close", "volume", "trade_count", "is_partial"]

cells = st.one_of(
    st.sampled_from(
        ["", "1", "1.5", "-1", "1e308", "1e30", "-0.0", "5e-324", "nan", "NULL", "yes", "0", "٣", "1_0", "0x1", "1,5",
         "2026-01-05T08:00Z", "2026-01-05 08:01", "1767600000", "infinity"]
    ),
    st.text(max_size=5),
)  # fmt: skip
COMMANDS = (
    ["status"],
    ["status", "--bars", "--json"],
    ["doctor"],
    ["doctor", "--json"],
    ["repair"],
    ["sync"],
    ["logs", "--failed"],
    ["gaps", "--", "{symbol}"],
    ["chart", "--out=page.html", "--", "{symbol}", "{timeframe}"],
    ["chart", "--out=page.svg", "--", "{symbol}", "{timeframe}"],
    ["explain", "--", "{symbol}", "{timeframe}", "2026-01-05T08:00"],
    ["rebuild", "--", "{symbol}", "{timeframe}"],
    ["pause", "--reason=[/]", "--", "{symbol}"],
    ["resume", "--", "{symbol}"],
    ["verify", "--symbol={symbol}", "--all"],
    ["check", "--symbol={symbol}"],
    ["verify", "--all"],
    ["check"],
)
OF_ALL = [words for words in COMMANDS if not any("{" in word for word in words)]  # go on with the other symbols


def bars(symbol: str, hour: int) -> list[list[object]]:
    return [
        [symbol, f"{DAY}T{hour:02}:{n:02}Z", 100 + n % 7, 103 + n % 7, 99, 101 + n % 7, 10, 3, "false"]
        for n in range(60)
    ]


def load(path: Path, rows: list[list[object]]) -> int:
    """Exit code of a load of these rows."""
    with path.open("w", encoding="utf-8", newline="", errors="surrogatepass") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return said("load", str(path))


def said(*words: str) -> int:
    """Exit code of a command: one that is documented, without a traceback."""
    result = CliRunner().invoke(app, list(words), terminal_width=200)
    assert result.exception is None or isinstance(result.exception, SystemExit), words
    assert result.exit_code in (0, 1, 2), (words, result.output)
    assert "Traceback" not in result.output
    if list(words) in OF_ALL:
        assert not result.stderr.startswith("Error"), (words, result.stderr)
    event(f"{words[0]} {result.exit_code}")
    return result.exit_code


def failed_tasks(result: dg.ExecuteInProcessResult) -> set[str]:
    """Symbols of the tasks that a run names as failed; a run that failed for another reason fails the test."""
    failures = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert result.success or failures
    assert {e.step_key for e in failures} <= {"close_run", "backfill_bars"}, failures
    return {e.step_failure_data.user_failure_data.description or "" for e in failures}


@given(
    symbol=symbols().filter(lambda name: name not in GOOD),
    rows=st.lists(st.lists(cells, min_size=8, max_size=8), max_size=4),
    planted=st.lists(raw_rows, max_size=4, unique_by=lambda row: row["ts_utc"]),
    state=states,
    timeframe=st.sampled_from(TIMEFRAMES),
    ranges=st.lists(st.tuples(times, times), max_size=2),
    commands=st.lists(st.sampled_from(COMMANDS), min_size=3, max_size=3, unique_by=tuple),
)
@example(
    symbol="[/]", rows=[], planted=[], state={"last_agg_bar_ts_utc": "infinity"}, timeframe="5m", ranges=[],
    commands=[COMMANDS[0], COMMANDS[2], COMMANDS[4]],
)  # fmt: skip
@settings(
    max_examples=max(1, settings.default.max_examples // 40),
    # In `make test` only the example above: one takes ten seconds.
    phases=tuple(Phase) if settings.default.max_examples > MANY else (Phase.explicit,),
    suppress_health_check=list(HealthCheck),
)
def test_nothing_of_one_symbol_reaches_another(
    settings_of_the_stack: pytest.MonkeyPatch,
    clean: psycopg.Connection,
    tmp_path: Path,
    symbol: str,
    rows: list[list[str]],
    planted: list[dict[str, object]],
    state: dict[str, object],
    timeframe: str,
    ranges: list[tuple[str, str]],
    commands: list[list[str]],
) -> None:
    settings_of_the_stack.setenv("TASKS_PER_STEP", "5")
    settings_of_the_stack.setattr("agg_pipeline.aggregation.backfill.LEASE_WAIT_S", 1.0)  # a lease of nobody
    settings_of_the_stack.setattr("agg_pipeline.database.rebuilding.LEASE_WAIT_S", 1.0)
    defs = build_definitions()
    clean.execute(f"truncate {TABLES} restart identity cascade".encode())
    settings_of_the_stack.chdir(tmp_path)
    path = tmp_path / "bars.csv"
    assert load(path, [row for name in (*GOOD, symbol) for row in bars(name, 8)]) == 0
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(defs, instance, now_utc=f"{DAY}T09:20:00Z", max_tasks=100).success
        load(path, [[symbol, *row] for row in rows])  # 0, 1 or 2
        assert load(path, [row for name in GOOD for row in bars(name, 9)]) == 0
        plant(clean, symbol, planted, timeframe, state, ranges)
        for result in (
            run(defs, instance, now_utc=f"{DAY}T12:20:00Z", max_tasks=100),
            backfill(defs, instance, DAY, DAY, ["5m", "15m"]),
        ):
            told = " ".join(failed_tasks(result)).replace(symbol, "")
            assert not [name for name in GOOD if f"{name}/" in told], told
            counts = assert_equals_oracle(clean, GOOD)
            assert [counts[name, "5m"] for name in GOOD] == [24, 24]
    for words in commands:
        said(*(word.format(symbol=symbol, timeframe=timeframe) if "{" in word else word for word in words))
