"""Checks of stored bars that owe nothing to the SQL that built them: questions asked of one symbol.

The prices of raw bars are looked at too; what is wrong with one is a warning, for it counts as missing.

Belongs here: what is asked. How an answer is told: findings. Reading pages and recomputing them: verify. Which source
bars are missing: agg_gaps, the one rule. One page is in memory at a time, and serves all questions.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.quality.check_results import CHECKS, KEPT, MAX_LAG_WINDOWS, CheckResult, Finding, Severity
from agg_pipeline.quality.recomputation import is_equal, window_starts
from agg_pipeline.quality.verification import Verdict, recompute
from agg_pipeline.reading.columns import PRICES
from agg_pipeline.reading.pages import Bars, pages, read_page

Flags: TypeAlias = "pd.Series[bool]"
Floats: TypeAlias = "pd.Series[float]"
Results: TypeAlias = "dict[tuple[str, str], CheckResult]"  # by check and timeframe, of derived bars
MAX_JUMP = 0.5  # from a close to the next open, relative to the close
_NUMBERS = [*PRICES, "vol", "vwap", "trade_count"]
_VWAP_TOLERANCE = 1e-9  # relative: the last bits of a quotient of sums may lie outside of low to high


def check_bars(
    gateway: AggGateway,
    symbol: str,
    *,
    begin: dt.datetime,
    end: dt.datetime,
    timeframes: Collection[str] = (),
    max_lag_windows: int = MAX_LAG_WINDOWS,
    health: Sequence[TaskHealth] | None = None,
    seen: Callable[[Bars], None] | None = None,
) -> list[CheckResult]:
    """Ask all CHECKS of the windows of a symbol that start in [begin, end), and of its tasks as they stand now.

    A jump into the first window of a range is seen if the bar before it is of the same UTC day.

    Args:
        timeframes: those to judge; empty: all that can be recomputed.
        health: of the symbol's tasks, if it was read already.
        seen: gets each page that was read, for whoever wants to draw what was judged.
    Returns:
        One result for each check and timeframe that has a task, in the order of CHECKS; parents_agree has none for a
        timeframe that is built from raw 1m bars. Then RAW_CHECKS, prices_sane only if there are raw bars.
    Raises:
        ValueError: the symbol has no such tasks, or a time is not in UTC.
        GatewayError: the database could not be asked.
    """
    health = [task for task in health or gateway.health([symbol]) if task.timeframe in LADDER]
    tasks = {task.timeframe: task for task in health if not timeframes or task.timeframe in timeframes}
    if not tasks:
        raise ValueError(f"there are no tasks of {symbol}" + (f" for {', '.join(timeframes)}" if timeframes else ""))
    asked = [(check, name) for check in CHECKS for name in tasks]
    results: Results = {(check, name): CheckResult(check, symbol, name) for check, name in asked}
    for name in [name for name in tasks if LADDER[Timeframe(name)] == Timeframe.M1]:
        del results["parents_agree", name]
    for name, task in tasks.items():
        results["lag", name].take_lag(task, max_lag_windows)
        results["health", name].take_health(task)
        reports = [gateway.gaps(task, max(begin, first), min(end, last)) for first, last in pages(begin, end)]
        for report in reports:
            results["no_gaps", name].take_gaps(report)
        results["coverage", name].take_coverage(reports, begin)
    raw: CheckResult | None = None
    before: dict[Timeframe, pd.DataFrame] = {}  # the last bar of the page before
    for page in pages(begin, end, max((Timeframe(name) for name in tasks), key=lambda timeframe: timeframe.minutes)):
        if (bars := read_page(gateway, symbol, page)) is None:
            continue
        if seen is not None:
            seen(bars)
        _check_recomputation(results, bars, recompute(bars, begin=begin, end=end, timeframes=tasks))
        levels = {timeframe: _numbers(bars.stored(timeframe)) for timeframe in {*bars.tasks, bars.base} if timeframe}
        sources = {source: _fit(levels[source], source) for source in {*LADDER.values()} & levels.keys()}
        if bars.base:
            raw = raw or CheckResult("prices_sane", symbol, bars.base.value, of_raw=True)
        for timeframe, stored in levels.items():
            if (judged := raw if timeframe == bars.base else results.get(("prices_sane", timeframe))) is not None:
                rows = pd.concat([before[timeframe], stored]) if timeframe in before else stored
                _check_prices(judged, bars, rows, max(begin, page[0]), end)
                before[timeframe] = stored.tail(1)
        for timeframe in [known for known in bars.tasks if known in tasks]:
            stored, source = levels[timeframe], LADDER[timeframe]
            if source in sources:
                both = stored.merge(_windows(sources[source], timeframe), on="ts_utc", how="outer")
                built = bars.tasks[timeframe]
                first, stop = max(begin, built.first_window_utc), min(end, built.cursor_utc)
                both = both[both["ts_utc"].between(first, stop, inclusive="left")]
                if ("parents_agree", timeframe) in results:
                    _check_parents(results["parents_agree", timeframe], bars, both, source)
    return [*results.values(), *([raw] if raw else []), *_check_tables(gateway, health[0], begin, end)]


def _check_tables(gateway: AggGateway, task: TaskHealth, begin: dt.datetime, end: dt.datetime) -> Iterator[CheckResult]:
    if task.newest_source_utc is None:  # nothing is built yet: perhaps because of them
        end = max(end, dt.datetime.now(dt.UTC))
    misplaced = gateway.misplaced_rows(task.symbol, begin, end)
    for check, kind in (("right_table", "wrong table"), ("no_duplicates", "duplicate")):
        result = CheckResult(check, task.symbol, Timeframe.M1.value, of_raw=True, checked=1)
        result.take_misplaced([row for row in misplaced if row.kind == kind])
        yield result


def _take(result: CheckResult, bars: Bars, *hits: pd.DataFrame) -> None:
    """Add findings: rows with ts_utc, by, text (a format of the row's columns) and severity."""
    if not (some := [rows for rows in hits if not rows.empty]):
        return
    rows = pd.concat(some, ignore_index=True)
    if result.of_raw:
        rows = rows.assign(severity="warn")
    waits = bars.waits(rows["ts_utc"], Timeframe(result.timeframe))
    result.waiting += rows["ts_utc"][waits].nunique()
    rows = rows[~waits].sort_values(["severity", "ts_utc"], kind="stable")  # "error" before "warn"
    result.found += len(rows)
    for row in rows.head(KEPT).to_dict("records"):
        ts, problem = row["ts_utc"].to_pydatetime(), row["text"].format_map(row).replace("nan", "unknown")
        by = float(row["by"]) if np.isfinite(row["by"]) else None
        result.keep(Finding(result.symbol, result.timeframe, ts, problem, by, row["severity"]))


def _check_recomputation(results: Results, bars: Bars, verdict: Verdict) -> None:
    texts = {"missing": "no bar, should be one", "surplus": "a bar, should be none"}
    for timeframe, judged in verdict.judged.items():
        result = results["matches_recomputation", timeframe]
        result.checked += judged
        if not (rows := verdict.differences).empty:
            rows = rows[(rows["timeframe"] == timeframe.value).to_numpy()]
            wrong = "{field} is {actual!r}, recomputed {expected!r}"
            _take(result, bars, rows.assign(text=rows["problem"].map(texts).fillna(wrong), severity="error"))


def _check_parents(result: CheckResult, bars: Bars, both: pd.DataFrame, source: Timeframe) -> None:
    both = both[both["timeframe"].notna() & both["found"].notna()]
    result.checked += len(both)
    hits = []
    for name in [*PRICES, "vol", "trade_count"]:
        have, want = both[name], both[f"{name}_source"]
        text = f"{name} is {{{name}!r}}, its {source} bars give {{{name}_source!r}}"
        hits.append(_hits(both, ~is_equal(want, have, name), have - want, text))
    _take(result, bars, *hits)


def _check_prices(result: CheckResult, bars: Bars, rows: pd.DataFrame, begin: dt.datetime, end: dt.datetime) -> None:
    """``rows`` may start before ``begin``: the close before the first one that is judged."""
    close, adjacent = rows["close"].shift(), rows["ts_utc"].diff() == Timeframe(result.timeframe).length
    rows = rows.assign(close_before=close.where(adjacent & (close > 0)))  # of a spread around 0 a ratio says nothing
    rows = rows[(rows["ts_utc"] >= begin) & (rows["ts_utc"] < end)]
    result.checked += len(rows)
    jump = rows["open"] / rows["close_before"] - 1
    over = rows["vwap"] - rows["vwap"].clip(rows["low"], rows["high"])
    slack = _VWAP_TOLERANCE * rows[["low", "high"]].abs().max(axis=1)
    _take(
        result,
        bars,
        *(_hits(rows, wrong, by, text) for wrong, by, text in _price_errors(rows)),
        _hits(rows, rows["low"] <= 0, rows["low"], "low is {low!r}, not above 0", "warn"),
        _hits(rows, over.abs() > slack, over, "vwap is {vwap!r}, outside {low!r} to {high!r}", "warn"),
        _hits(rows, jump.abs() > MAX_JUMP, jump, "opens at {open!r} after a close of {close_before!r}", "warn"),
    )


def _price_errors(rows: pd.DataFrame) -> Iterator[tuple[Flags, Floats, str]]:
    """What makes a bar unfit, and unfit as a source too: which rows, by how much, and in what words."""
    for name in PRICES:
        yield ~(rows[name].abs() < np.inf), rows[name], f"{name} is {{{name}!r}}"  # so is an unknown one
    top, bottom = rows[["open", "close"]].max(axis=1), rows[["open", "close"]].min(axis=1)
    yield rows["high"] < top, rows["high"] - top, "high is {high!r}, below open {open!r} or close {close!r}"
    yield rows["low"] > bottom, rows["low"] - bottom, "low is {low!r}, above open {open!r} or close {close!r}"
    yield (rows["vol"] < 0) | (rows["vol"] == np.inf), rows["vol"], "vol is {vol!r}"


def _fit(bars: pd.DataFrame, timeframe: Timeframe) -> pd.DataFrame:
    """The bars that count as a source."""
    fit = bars["ts_utc"] == window_starts(bars["ts_utc"], timeframe)
    for wrong, *_ in _price_errors(bars):
        fit &= ~wrong
    return bars[fit].assign(trade_count=bars["trade_count"].where(bars["trade_count"] >= 0))


def _windows(source: pd.DataFrame, target: Timeframe) -> pd.DataFrame:
    """What the bars of a source say of each ``target`` window: columns *_source, and how many were found."""
    windows = source.groupby(window_starts(source["ts_utc"], target))
    price = {"open": windows["open"].first(), "high": windows["high"].max(), "low": windows["low"].min()}
    price |= {"close": windows["close"].last()}
    sums = {name: windows[name].sum(min_count=1) for name in ("vol", "trade_count")}
    columns = {f"{name}_source": values for name, values in (price | sums).items()}
    return pd.DataFrame(columns | {"found": windows.size()}).reset_index()


def _numbers(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars in order of time; what the database calls unknown is NaN, Infinity is infinite."""
    return bars[["timeframe", "ts_utc", *_NUMBERS]].astype(dict.fromkeys(_NUMBERS, "float64")).sort_values("ts_utc")


def _hits(rows: pd.DataFrame, wrong: Flags, by: Floats, text: str, severity: Severity = "error") -> pd.DataFrame:
    if not wrong.any():
        return rows.iloc[:0]
    return rows[wrong].assign(by=by[wrong], text=text, severity=severity)
