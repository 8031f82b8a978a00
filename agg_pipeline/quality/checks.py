"""Checks of the stored bars and tasks of one symbol, page by page, independent of the SQL that built the bars.

Belongs here: which checks run on which bars. Does not belong here: the checks themselves (bar_checks, task_checks),
reading pages (reading.pages), and the rule which source bars are missing (the database function agg_gap_report).
"""

import datetime as dt
from collections.abc import Callable, Collection, Sequence

import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.quality import bar_checks, task_checks
from agg_pipeline.quality.check_results import CHECKS, CheckResult
from agg_pipeline.quality.verification import verify_bars
from agg_pipeline.reading.pages import Bars, pages, read_page


def check_bars(
    gateway: AggGateway,
    symbol: str,
    *,
    begin: dt.datetime,
    end: dt.datetime,
    timeframes: Collection[str] = (),
    max_lag_windows: int = task_checks.MAX_LAG_WINDOWS,
    health: Sequence[TaskHealth] | None = None,
    on_page: Callable[[Bars], None] | None = None,
) -> list[CheckResult]:
    """Run all CHECKS and RAW_CHECKS on the windows of a symbol that start in [begin, end), and on its tasks as of now.

    A price jump into the first window of the range is found only if the bar before it is of the same UTC day.

    Args:
        timeframes: those to check; empty: all that can be recomputed.
        health: health of the symbol's tasks; None: it is read.
        on_page: called with each page of bars, so that a caller need not read it again.
    Returns:
        One result for each check and timeframe that has a task, in the order of CHECKS; no parents_agree for timeframes
        that are built from raw 1m bars. Then RAW_CHECKS, prices_sane only if there are raw bars.
    Raises:
        ValueError: the symbol has no such tasks, or a time is not in UTC.
        GatewayError: a call of the database failed.
    """
    health = [task for task in health or gateway.health([symbol]) if task.timeframe in LADDER]
    tasks = {task.timeframe: task for task in health if not timeframes or task.timeframe in timeframes}
    if not tasks:
        raise ValueError(f"there are no tasks of {symbol}" + (f" for {', '.join(timeframes)}" if timeframes else ""))
    keys = [(check, name) for check in CHECKS for name in tasks]
    results: bar_checks.Results = {(check, name): CheckResult(check, symbol, name) for check, name in keys}
    for name in [name for name in tasks if LADDER[Timeframe(name)] == Timeframe.M1]:
        del results["parents_agree", name]
    for name, task in tasks.items():
        results["lag", name] = task_checks.check_lag(task, max_lag_windows)
        results["health", name] = task_checks.check_health(task)
        reports = [gateway.gaps(task, max(begin, first), min(end, last)) for first, last in pages(begin, end)]
        results["no_gaps", name] = task_checks.check_gaps(task, reports)
        results["coverage", name] = task_checks.check_coverage(task, reports, begin)
    raw_prices: CheckResult | None = None
    last_bars: dict[Timeframe, pd.DataFrame] = {}  # the last bar of the page before, per timeframe
    for page in pages(begin, end, max((Timeframe(name) for name in tasks), key=lambda timeframe: timeframe.minutes)):
        if (bars := read_page(gateway, symbol, page)) is None:
            continue
        if on_page is not None:
            on_page(bars)
        bar_checks.check_recomputation(results, bars, verify_bars(bars, begin=begin, end=end, timeframes=tasks))
        levels = {name: bar_checks.as_floats(bars.stored(name)) for name in {*bars.tasks, bars.base} if name}
        if bars.base:
            raw_prices = raw_prices or CheckResult("prices_sane", symbol, bars.base.value, is_raw=True)
        for timeframe, stored in levels.items():
            result = raw_prices if timeframe == bars.base else results.get(("prices_sane", timeframe))
            if result is not None:
                rows = pd.concat([last_bars[timeframe], stored]) if timeframe in last_bars else stored
                bar_checks.check_prices(result, bars, rows, max(begin, page[0]), end)
                last_bars[timeframe] = stored.tail(1)
        for timeframe, built in bars.tasks.items():
            source = LADDER[timeframe]
            if ("parents_agree", timeframe) in results and source in levels:
                first, stop = max(begin, built.first_window_utc), min(end, built.cursor_utc)
                parents = levels[timeframe]
                parents = parents[parents["ts_utc"].between(first, stop, inclusive="left")]
                bar_checks.check_parents(results["parents_agree", timeframe], bars, parents, source, levels[source])
    return [*results.values(), *([raw_prices] if raw_prices else []), *_check_tables(gateway, health[0], begin, end)]


def _check_tables(gateway: AggGateway, task: TaskHealth, begin: dt.datetime, end: dt.datetime) -> list[CheckResult]:
    if task.newest_source_utc is None:  # no source row is read yet: all may be misplaced, also those after ``end``
        end = max(end, dt.datetime.now(dt.UTC))
    return task_checks.check_misplaced_rows(task.symbol, gateway.misplaced_rows(task.symbol, begin, end))
