"""Checks of bars as data frames: against a recomputation, parents against children, prices.

Each function adds what it finds on one page to the result of its check.
"""

import datetime as dt
import sys
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import pandas as pd

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.check_results import MAX_FINDINGS, CheckResult, Finding, Severity
from agg_pipeline.quality.recomputation import is_equal, is_valid, window_starts
from agg_pipeline.quality.verification import Verification
from agg_pipeline.reading.columns import PRICES
from agg_pipeline.reading.pages import Bars

Flags: TypeAlias = "pd.Series[bool]"
Floats: TypeAlias = "pd.Series[float]"
Results: TypeAlias = "dict[tuple[str, str], CheckResult]"  # by check and timeframe, of derived bars
MAX_JUMP = 0.5  # from a close to the next open, relative to the close
_NUMBERS = [*PRICES, "vol", "vwap", "trade_count"]
_LARGEST_TERM = sys.float_info.max / 1440
"""Largest volume that a window adds up: stored rows may hold larger ones, whose sum is infinite."""

_VWAP_TOLERANCE = 1e-9  # relative: rounding of a quotient of sums may leave the range from low to high


def check_recomputation(results: Results, bars: Bars, verification: Verification) -> None:
    """Add the differences of a page to the results of matches_recomputation."""
    texts = {"missing": "the bar is missing", "surplus": "the bar is surplus: its source gives none"}
    for timeframe, checked in verification.checked.items():
        result = results["matches_recomputation", timeframe]
        result.checked += checked
        if not (rows := verification.differences).empty:
            rows = rows[(rows["timeframe"] == timeframe.value).to_numpy()]
            wrong = "{field} is {actual!r}, recomputed {expected!r}"
            _add_findings(result, bars, rows.assign(text=rows["problem"].map(texts).fillna(wrong), severity="error"))


def check_parents(
    result: CheckResult, bars: Bars, parents: pd.DataFrame, source: Timeframe, children: pd.DataFrame
) -> None:
    """Compare prices, volume and trades of stored bars with those of the stored bars that they are built from.

    Args:
        parents, children: rows of ``as_floats``; parents without a valid child are not checked.
        source: timeframe of the children.
    """
    both = parents.merge(
        _by_window(children, source, Timeframe(result.timeframe), is_raw=source == bars.base), on="ts_utc"
    )
    result.checked += len(both)
    findings = []
    for name in [*PRICES, "vol", "trade_count"]:
        actual, expected = both[name], both[f"{name}_source"]
        text = f"{name} is {{{name}!r}}, its {source} bars give {{{name}_source!r}}"
        findings.append(_select(both, ~is_equal(expected, actual, name), actual - expected, text))
    _add_findings(result, bars, *findings)


def check_prices(result: CheckResult, bars: Bars, rows: pd.DataFrame, begin: dt.datetime, end: dt.datetime) -> None:
    """Check prices of the bars that start in [begin, end).

    ``rows`` are of ``as_floats``, and may hold a bar before ``begin``: its close is compared with the next open.
    """
    close, adjacent = rows["close"].shift(), rows["ts_utc"].diff() == Timeframe(result.timeframe).length
    rows = rows.assign(close_before=close.where(adjacent & (close > 0)))  # no ratio for prices around 0, as of a spread
    rows = rows[(rows["ts_utc"] >= begin) & (rows["ts_utc"] < end)]
    result.checked += len(rows)
    jump = rows["open"] / rows["close_before"] - 1
    over = rows["vwap"] - rows["vwap"].clip(rows["low"], rows["high"])
    slack = _VWAP_TOLERANCE * rows[["low", "high"]].abs().max(axis=1)
    _add_findings(
        result,
        bars,
        *(_select(rows, wrong, by, text) for wrong, by, text in _price_errors(rows)),
        _select(rows, rows["low"] <= 0, rows["low"], "low is {low!r}, not above 0", "warn"),
        _select(rows, over.abs() > slack, over, "vwap is {vwap!r}, outside {low!r} to {high!r}", "warn"),
        _select(rows, jump.abs() > MAX_JUMP, jump, "opens at {open!r} after a close of {close_before!r}", "warn"),
    )


def _price_errors(rows: pd.DataFrame) -> Iterator[tuple[Flags, Floats, str]]:
    """Errors that also make a bar invalid as a source: rows, difference, format of the message."""
    for name in PRICES:
        yield ~(rows[name].abs() < np.inf), rows[name], f"{name} is {{{name}!r}}"  # true for NaN as well
    top, bottom = rows[["open", "close"]].max(axis=1), rows[["open", "close"]].min(axis=1)
    yield rows["high"] < top, rows["high"] - top, "high is {high!r}, below open {open!r} or close {close!r}"
    yield rows["low"] > bottom, rows["low"] - bottom, "low is {low!r}, above open {open!r} or close {close!r}"
    yield (rows["vol"] < 0) | (rows["vol"] == np.inf), rows["vol"], "vol is {vol!r}"


def _by_window(children: pd.DataFrame, source: Timeframe, target: Timeframe, *, is_raw: bool) -> pd.DataFrame:
    """Valid children aggregated by ``target`` window, in columns *_source; windows without one are left out."""
    valid = children[is_valid(children, source, is_raw=is_raw)]
    counts, volumes = valid["trade_count"], valid["vol"]
    valid = valid.assign(trade_count=counts.where(counts >= 0), vol=volumes.mask(volumes > _LARGEST_TERM, np.inf))
    windows = valid.groupby(window_starts(valid["ts_utc"], target))
    price = {"open": windows["open"].first(), "high": windows["high"].max(), "low": windows["low"].min()}
    price |= {"close": windows["close"].last()}
    sums = {name: windows[name].sum(min_count=1) for name in ("vol", "trade_count")}
    columns = {f"{name}_source": values for name, values in (price | sums).items()}
    return pd.DataFrame(columns).reset_index()


def as_floats(bars: pd.DataFrame) -> pd.DataFrame:
    """Bars sorted by time, their numbers as floats: NaN is unknown."""
    return bars[["timeframe", "ts_utc", *_NUMBERS]].astype(dict.fromkeys(_NUMBERS, "float64")).sort_values("ts_utc")


def _select(rows: pd.DataFrame, wrong: Flags, by: Floats, text: str, severity: Severity = "error") -> pd.DataFrame:
    """The wrong rows, with the columns by, text and severity of their findings."""
    if not wrong.any():
        return rows.iloc[:0]
    return rows[wrong].assign(by=by[wrong], text=text, severity=severity)


def _add_findings(result: CheckResult, bars: Bars, *selected: pd.DataFrame) -> None:
    """Add rows of ``_select`` as findings; those in invalidated windows are only counted.

    ``text`` is a format string over the columns of its row.
    """
    if not (parts := [rows for rows in selected if not rows.empty]):
        return
    rows = pd.concat(parts, ignore_index=True)
    if result.is_raw:
        rows = rows.assign(severity="warn")  # an invalid raw bar counts as missing
    is_invalidated = bars.is_invalidated(rows["ts_utc"], Timeframe(result.timeframe))
    result.invalidated += rows["ts_utc"][is_invalidated].nunique()
    rows = rows[~is_invalidated].sort_values(["severity", "ts_utc"], kind="stable")  # "error" before "warn"
    findings = []
    for row in rows.head(MAX_FINDINGS).to_dict("records"):
        ts, problem = row["ts_utc"].to_pydatetime(), row["text"].format_map(row).replace("nan", "unknown")
        by = float(row["by"]) if np.isfinite(row["by"]) else None
        findings.append(Finding(result.symbol, result.timeframe, ts, problem, by, row["severity"]))
    result.add(findings, count=len(rows))
