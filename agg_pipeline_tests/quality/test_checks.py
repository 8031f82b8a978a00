"""Checks of bars, on pages made by hand: no findings for right bars, the window of each wrong bar."""

import copy
import datetime as dt
import functools
import random
from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.bars import BarsPage, InvalidatedRange, PageTask
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.gaps import Gap, GapReport, Misplaced
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.check_results import CHECKS, RAW_CHECKS, CheckResult
from agg_pipeline.quality.checks import check_bars
from agg_pipeline.quality.recomputation import reference_bars
from agg_pipeline.quality.task_checks import check_lag
from agg_pipeline.reading import pages as reading_pages
from agg_pipeline.reading.columns import BAR_COLUMNS, PRICES, RAW_COLUMNS
from agg_pipeline_tests.quality.raw_bars import MIDNIGHT, bar
from agg_pipeline_tests.quality.test_recomputation_properties import raw_bars

M1, M5, M15, H1, H4, D1 = Timeframe
DAY = dt.timedelta(days=1)
few = settings(  # one takes a second, and making one smaller takes minutes
    max_examples=settings().max_examples // 50, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


class Pages(AggGateway):
    """Gateway that returns what a database with these bars of EURUSD would."""

    def __init__(self, raw: pd.DataFrame, base: Timeframe = M1) -> None:
        self.raw, self.base = raw[raw["canonical_symbol"] == "EURUSD"], base
        self.levels = reference_bars(self.raw, base, MIDNIGHT)
        self.derived = pd.concat(self.levels.values(), ignore_index=True)
        self.invalidated: list[InvalidatedRange] = []
        self.cursors = {timeframe: MIDNIGHT + 9 * DAY for timeframe in self.levels}
        self.lag, self.task = 0, dict[str, Any]()
        self.absent: list[Gap] = []

    def bars_page(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> BarsPage:
        tasks = [
            PageTask(timeframe=name, base_timeframe=self.base, first_window_utc=MIDNIGHT, cursor_utc=cursor)
            for name, cursor in self.cursors.items()
        ]
        raw, derived = (_columns(rows[rows["ts_utc"].between(begin, end, inclusive="left")]) for rows in
                        (self.raw[RAW_COLUMNS], self.derived[BAR_COLUMNS]))  # fmt: skip
        return BarsPage(tasks=tasks, invalidated=self.invalidated, raw=raw, derived=derived)

    def health(self, symbols: Any = None) -> list[TaskHealth]:
        plain = dict.fromkeys(TaskHealth.model_fields, None) | {"symbol": "EURUSD", "status": "idle", "enabled": True}
        plain |= {"waits_for_task": False, "hard_fail_streak": 0, "transient_streak": 0, "first_window_utc": MIDNIGHT}
        plain |= {"state": "current", "backlog_windows": self.lag, "touched_windows": 0, "next_window_utc": MIDNIGHT}
        plain |= self.task
        return [TaskHealth(**plain | {"timeframe": name, "cursor_utc": at}) for name, at in self.cursors.items()]

    def misplaced_rows(self, symbol: str, begin: dt.datetime, end: dt.datetime) -> list[Misplaced]:
        return []

    def gaps(self, task: Task, begin: dt.datetime, end: dt.datetime) -> GapReport:
        known = {"symbol": task.symbol, "timeframe": task.timeframe, "rejected": 0, "late": 0}
        found = sum(begin <= ts < end for ts in self.raw["ts_utc"])
        return GapReport(**known, found=found, gaps=[gap for gap in self.absent if begin <= gap.from_utc < end])

    def damage(self, timeframe: Timeframe, ts: dt.datetime, **fields: object) -> None:
        row = (self.derived["timeframe"] == timeframe) & (self.derived["ts_utc"] == ts)
        assert row.sum() == 1
        for name, value in fields.items():
            self.derived[name] = self.derived[name].astype(object).mask(row, value)


def _columns(rows: pd.DataFrame) -> dict[str, list[Any]]:
    plain = rows.drop(columns=["canonical_symbol", "ts_utc"]).astype(object)
    columns = plain.where(plain.notna(), None).to_dict("list")
    return {str(name): values for name, values in columns.items()} | {
        "ts_us": [int(ts.timestamp()) * 1_000_000 for ts in rows["ts_utc"]]
    }


def run_checks(pages: AggGateway, **options: Any) -> dict[tuple[str, str], CheckResult]:
    results = check_bars(pages, "EURUSD", begin=MIDNIGHT, end=MIDNIGHT + 2 * DAY, **options)
    return {(result.check, result.timeframe): result for result in results}


def findings_of(pages: AggGateway, **options: Any) -> set[tuple[str, str, str]]:
    """(check, timeframe, time) of every finding."""
    return {
        (*key, f"{finding.window_utc:%H:%M}")
        for key, result in run_checks(pages, **options).items()
        for finding in result.findings
    }


@functools.cache  # computing the bars takes 0.3 s, and thirty tests begin with the same ones
def _constant_bars(days: int, base: Timeframe) -> Pages:
    rows = [bar(m, base, vol=1.5, vwap=10.5, trade_count=2) for m in range(0, days * 1440, base.minutes)]
    return Pages(pd.DataFrame(rows), base)


def constant_bars(days: int = 1, base: Timeframe = M1) -> Pages:
    return copy.deepcopy(_constant_bars(days, base))


@few
@given(raw_bars())
def test_bars_built_from_any_raw_bars_have_no_errors(raw: pd.DataFrame) -> None:
    """Also with missing or invalid source bars, unknown values and negative prices."""
    results = run_checks(Pages(raw))
    errors = [str(f) for result in results.values() for f in result.findings if f.severity == "error"]
    assert errors == []
    assert {check for check, _ in results} == {*CHECKS, *RAW_CHECKS}


@few
@given(raw_bars(), st.integers(0, 2**32 - 1), st.sampled_from([*PRICES, "vol", "trade_count", "gone"]))
def test_any_damaged_field_is_found_in_its_window(raw: pd.DataFrame, seed: int, field: str) -> None:
    pages = Pages(raw)
    if pages.derived.empty:
        return
    hurt = pages.derived.sample(1, random_state=seed).iloc[0]
    timeframe, ts = Timeframe(hurt["timeframe"]), hurt["ts_utc"].to_pydatetime()
    if field == "gone":
        pages.derived = pages.derived.drop(index=hurt.name)
    else:
        value = hurt[field]
        pages.damage(
            timeframe, ts, **{field: 7 if pd.isna(value) else int(value * (1 + random.Random(seed).random())) + 1}
        )
    found = findings_of(pages)
    at = f"{ts:%H:%M}"
    assert ("matches_recomputation", timeframe, at) in found
    assert ("parents_agree", timeframe, at) in found or field == "gone" or timeframe is M5
    assert {name for check, name, _ in found if check == "matches_recomputation"} == {timeframe}


@pytest.mark.parametrize("base", [M1, M5])
def test_each_timeframe_is_checked_against_its_source(base: Timeframe) -> None:
    pages = constant_bars(base=base)
    assert findings_of(pages) == set()
    counts = {key: result.checked for key, result in run_checks(pages).items()}
    bars = {timeframe.value: 1440 // timeframe.minutes for timeframe in pages.levels}
    for check in ("matches_recomputation", "prices_sane"):
        raw = {base.value: 1440 // base.minutes} if check == "prices_sane" else {}
        assert {name: n for (asked, name), n in counts.items() if asked == check} == bars | raw
    parents = {name: n for (asked, name), n in counts.items() if asked == "parents_agree"}
    assert parents == {name: n for name, n in bars.items() if name != "5m"}, "raw 5m bars are children as well"


IMPOSSIBLE: list[tuple[dict[str, object], str, str]] = [
    ({"open": None}, "open is unknown", "error"),
    ({"close": "NaN"}, "close is unknown", "error"),
    ({"high": "Infinity"}, "high is inf", "error"),
    ({"high": 10.5}, "high is 10.5, below open 10.0 or close 11.0 (by -0.5)", "error"),
    ({"low": 10.25}, "low is 10.25, above open 10.0 or close 11.0 (by 0.25)", "error"),
    ({"vol": -1.0}, "vol is -1.0 (by -1)", "error"),
    ({"vol": "NaN"}, "vol is inf", "error"),
    ({"low": -3.0}, "low is -3.0, not above 0 (by -3)", "warn"),
    ({"vwap": 12.5}, "vwap is 12.5, outside 9.0 to 12.0 (by 0.5)", "warn"),
    ({"vwap": 8.0}, "vwap is 8.0, outside 9.0 to 12.0 (by -1)", "warn"),
    ({"vwap": "NaN"}, "vwap is inf, outside 9.0 to 12.0", "warn"),
    ({"open": 17.0, "high": 18.0}, "opens at 17.0 after a close of 11.0 (by 0.545454545455)", "warn"),
]


def test_each_impossible_price_is_reported() -> None:
    """Each in an hour of its own, so that none is beside another."""
    pages = constant_bars()
    for hour, (fields, _, _) in enumerate(IMPOSSIBLE):
        pages.damage(M5, MIDNIGHT + dt.timedelta(hours=hour, minutes=5), **fields)
    results = run_checks(pages)
    result = results["prices_sane", "5m"]
    assert sorted((str(finding), finding.severity) for finding in result.findings) == [
        (f"EURUSD 5m 2024-03-13 {hour:02}:05 UTC: {problem}", severity)
        for hour, (_, problem, severity) in enumerate(IMPOSSIBLE)
    ]
    assert (result.passed, result.found, result.severity) == (False, len(IMPOSSIBLE), "error")
    assert results["matches_recomputation", "5m"].found >= len(IMPOSSIBLE)


def test_a_warning_alone_is_a_warning() -> None:
    pages = constant_bars()
    pages.damage(M5, MIDNIGHT + dt.timedelta(hours=10, minutes=5), vwap=12.5)
    result = run_checks(pages)["prices_sane", "5m"]
    assert (result.passed, result.found, result.severity) == (False, 1, "warn")


def test_unusual_but_possible_prices_pass() -> None:
    pages = constant_bars()
    possible = [{"vol": None, "vwap": None}, {"vwap": 12.0 * (1 + 9e-10)}, {"open": 16.0, "high": 16.0}, {"vol": 0.0}]
    for hour, fields in enumerate(possible):
        pages.damage(M5, MIDNIGHT + dt.timedelta(hours=hour, minutes=5), **fields)
    assert run_checks(pages)["prices_sane", "5m"].passed


def test_a_jump_counts_between_neighbours_only_and_not_around_zero() -> None:
    pages = constant_bars()
    pages.damage(M5, MIDNIGHT + dt.timedelta(hours=10), open=60.0, high=60.0, close=50.0)
    pages.derived = pages.derived[pages.derived["ts_utc"] != MIDNIGHT + dt.timedelta(hours=10, minutes=5)]
    assert [f.window_utc.minute for f in run_checks(pages)["prices_sane", "5m"].findings] == [0]
    pages = constant_bars()
    pages.damage(M5, MIDNIGHT + dt.timedelta(hours=10), low=-1.0, close=-1.0)
    assert [f.problem for f in run_checks(pages)["prices_sane", "5m"].findings] == ["low is -1.0, not above 0"]


def test_the_size_of_a_page_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = constant_bars(days=2)
    pages.damage(M5, MIDNIGHT + DAY, open=60.0, high=60.0)  # a jump from page to page
    pages.damage(H1, MIDNIGHT + DAY, vol=7.0)
    large = check_bars(pages, "EURUSD", begin=MIDNIGHT, end=MIDNIGHT + 2 * DAY)
    monkeypatch.setattr(reading_pages, "PAGE", DAY)
    assert check_bars(pages, "EURUSD", begin=MIDNIGHT, end=MIDNIGHT + 2 * DAY) == large
    (jump,) = [result for result in large if (result.check, result.timeframe) == ("prices_sane", "5m")]
    assert [finding.window_utc for finding in jump.findings] == [MIDNIGHT + DAY]


def test_all_findings_are_counted_and_the_first_are_stored_errors_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_pages, "PAGE", DAY)
    pages = constant_bars(days=2)
    pages.derived["vwap"] = 20.0
    pages.damage(M5, MIDNIGHT + DAY, vol=-1)
    result = run_checks(pages)["prices_sane", "5m"]
    assert (result.found, len(result.findings), result.severity) == (577, 20, "error")
    assert [f.problem for f in result.findings[:1]] == ["vol is -1.0"]
    assert [f.window_utc for f in result.findings[1:]] == [MIDNIGHT + n * M5.length for n in range(19)]


def test_invalidated_windows_are_counted_separately() -> None:
    pages = constant_bars()
    at = MIDNIGHT + dt.timedelta(hours=10)
    pages.invalidated = [InvalidatedRange(timeframe="5m", from_utc=at, to_utc=at + M5.length)]
    for timeframe in (M5, M15, H1):
        pages.damage(timeframe, at, high=13.0, vol=2.0)
    results = run_checks(pages)
    assert all(result.passed for result in results.values())
    waiting = {key: result.invalidated for key, result in results.items() if result.invalidated}
    assert waiting == {
        **{("matches_recomputation", name): 1 for name in ("5m", "15m", "1h")},
        **{("parents_agree", name): 1 for name in ("15m", "1h", "4h", "1d")},
    }


def test_only_selected_and_built_windows_are_checked() -> None:
    pages = constant_bars()
    for timeframe in pages.levels:
        pages.damage(timeframe, MIDNIGHT, vol=-1.0)
    assert {name for _, name, _ in findings_of(pages, timeframes=["1h"])} == {"1h"}
    later = check_bars(pages, "EURUSD", begin=MIDNIGHT + dt.timedelta(hours=1), end=MIDNIGHT + DAY)
    assert all(result.passed for result in later if result.timeframe in ("5m", "15m", "1h"))
    pages.cursors[M5] = MIDNIGHT + dt.timedelta(hours=12)
    pages.derived = pages.derived[pages.derived["ts_utc"] < pages.cursors[M5]]
    assert {window for _, name, window in findings_of(pages) if name == "5m"} == {"00:00"}, (
        "what is not built is no gap"
    )
    with pytest.raises(ValueError, match="no tasks of EURUSD for 7m"):
        run_checks(pages, timeframes=["7m"])


def lag_of(pages: Pages) -> CheckResult:
    return check_lag(next(task for task in pages.health() if task.timeframe == "15m"))


def test_lag_is_checked_only_for_enabled_tasks() -> None:
    pages = constant_bars()
    pages.lag = 4
    [finding] = run_checks(pages)["lag", "15m"].findings
    assert run_checks(pages, max_lag_windows=4)["lag", "15m"].passed
    assert lag_of(pages).findings == [finding]
    assert str(finding) == (
        "EURUSD 15m 2024-03-22 00:00 UTC: 4 windows behind the newest source bar, at most 3 are allowed (by 1)"
    )
    now = dt.datetime.now(dt.UTC)
    for task in ({"enabled": False}, {"status": "disabled"}, {"paused_at_utc": now},
                 {"paused_at_utc": now, "paused_until_utc": now + DAY}):  # fmt: skip
        pages.task = task
        result = lag_of(pages)
        assert (result.passed, result.checked) == (True, 0), task
    pages.task = {"paused_at_utc": now - DAY, "paused_until_utc": now - DAY}
    assert not lag_of(pages).passed, "a pause that is over"


@pytest.mark.parametrize(("minutes_ago", "severity"), [(1, "warn"), (59, "warn"), (61, "error"), (None, "error")])
def test_lag_is_a_warning_while_catching_up_and_an_error_when_stuck(minutes_ago: int | None, severity: str) -> None:
    pages = constant_bars()
    pages.lag = 4
    if minutes_ago is not None:
        pages.task = {"last_successful_at_utc": dt.datetime.now(dt.UTC) - dt.timedelta(minutes=minutes_ago)}
    result = lag_of(pages)
    assert (result.passed, result.severity) == (False, severity)
    assert ("but catching up" in str(result.findings[0])) == (severity == "warn")


def test_missing_gaps_are_warnings_and_other_gaps_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_pages, "PAGE", DAY)
    pages = constant_bars(days=2)
    pages.absent = [
        Gap(from_utc=at, to_utc=at + DAY / 24, kind=kind, missing=60, age_seconds=1)
        for at, kind in ((MIDNIGHT, "missing"), (MIDNIGHT + DAY / 2, "quiet"), (MIDNIGHT + DAY, "closed"))
    ]
    result = run_checks(pages)["no_gaps", "5m"]
    assert [str(finding) for finding in result.findings] == [
        "EURUSD 5m 2024-03-13 00:00 UTC: 60 source bars are missing until 2024-03-13 01:00"
    ]
    assert (result.found, result.severity, result.checked) == (1, "warn", 2 * 1440 + 60)
