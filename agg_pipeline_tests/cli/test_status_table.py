"""The table of `status` in a narrow terminal: the cause of a state stays readable, whatever stands beside it."""

import datetime as dt
import io

import pytest

from agg_pipeline.cli.app import PlainConsole
from agg_pipeline.cli.tables import bar_table, status_table
from agg_pipeline.database.models.bars import BarSummary
from agg_pipeline.database.models.health import TaskHealth

NOW = dt.datetime(2026, 1, 5, 10, 30, tzinfo=dt.UTC)
CAUSE = "no 1m bar since 2026-01-05 10:29, 12 days 4 h of open market"


def task(symbol: str, timeframe: str = "15m", lag: int = 3) -> TaskHealth:
    known = {"canonical_symbol": symbol, "timeframe": timeframe, "state": "waiting for source", "reason": CAUSE,
             "waits_for_task": False, "status": "idle", "enabled": True, "next_window_utc": NOW, "lag_windows": lag,
             "touched_windows": 0, "completeness_hour": 1.0, "completeness_day": 1.0, "hard_fail_streak": 0,
             "transient_streak": 0}  # fmt: skip
    return TaskHealth.model_validate(dict.fromkeys(TaskHealth.model_fields) | known)


def lines(tasks: list[TaskHealth], width: int) -> list[str]:
    console = PlainConsole(width=width, file=io.StringIO())
    console.print(status_table(tasks, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().replace("中", "XX").splitlines()  # as wide as it is shown


@pytest.mark.parametrize(
    "symbol",
    ["EURUSD", "X" * 100, "中" * 100, "a name of many words " * 4 + "x"],
    ids=["usual", "long", "wide", "words"],
)
@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_cause_of_a_state_is_readable(symbol: str, width: int) -> None:
    shown = lines([task("BTC/USD"), task(symbol, lag=123_456)], width)
    header = next(line for line in shown if "why" in line)
    causes = [line[header.index("why") :].strip(" │┃") for line in shown]
    assert " ".join(" ".join(causes).split()).count(CAUSE) == 2, shown
    assert sum(bool(cause) for cause in causes[causes.index("why") + 2 :]) <= 2 * 4, "a few lines, not one a word"
    assert all(len(line.rstrip()) <= width for line in shown)
    assert not any("…" in line for line in shown), "nothing is cut"


def test_a_wide_terminal_has_a_line_per_task() -> None:
    shown = lines([task("EURUSD"), task("BTC/USD", "1d")], 200)
    assert sum("waiting for source" in line and CAUSE in line for line in shown) == 2


def test_a_table_of_bars_cuts_no_number() -> None:
    bars = BarSummary(symbol="X" * 100, timeframe="15m", bars=1_234_567, quality_2=1_234_567, quality_1=0, quality_0=0,
                      quality_minus_1=0, first_utc=NOW, last_utc=NOW, revised=0)  # fmt: skip
    console = PlainConsole(width=80, file=io.StringIO())
    console.print(bar_table([bars], []))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "…" not in shown
    assert shown.count("X") == 100
