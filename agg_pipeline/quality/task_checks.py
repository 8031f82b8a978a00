"""Checks that need no bars: lag and health of tasks, gaps and coverage of their source, misplaced rows.

Each function returns the result of one check. Imports no pandas, since every tick imports it.
"""

import datetime as dt
from collections.abc import Sequence

from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.gaps import GapReport, Misplaced
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.check_results import MAX_FINDINGS, CheckResult, Finding, Severity

MAX_LAG_WINDOWS = 3
MAX_MISSING = 0.05
"""Largest share of expected source bars that may be missing."""

STUCK_AFTER = dt.timedelta(hours=1)
"""A task behind its source is stuck if its last success is older than this; until then it is catching up."""


def check_lag(task: TaskHealth, max_windows: int = MAX_LAG_WINDOWS) -> CheckResult:
    """Check that a task is at most ``max_windows`` behind its source: a warning while it catches up, else an error.

    A task that is paused or disabled is not checked.
    """
    result = CheckResult("lag", task.symbol, task.timeframe)
    if task.is_paused or not task.enabled or task.status == "disabled":
        return result
    result.checked = 1
    if (lag := task.backlog_windows or 0) > max_windows:
        since = dt.datetime.now(dt.UTC) - STUCK_AFTER
        catches_up = task.last_successful_at_utc is not None and task.last_successful_at_utc > since
        problem = f"{lag} windows behind the newest source bar, at most {max_windows} are allowed"
        problem += ", but catching up" if catches_up else ""
        severity: Severity = "warn" if catches_up else "error"
        window = task.built_until
        finding = Finding(task.symbol, task.timeframe, window, problem, lag - max_windows, severity)
        result.add([finding], count=1)
    return result


def check_health(task: TaskHealth) -> CheckResult:
    """Check that a task is in no state that needs an operator; a silent source is a warning, the others are errors."""
    result = CheckResult("health", task.symbol, task.timeframe, checked=1)
    if (severity := task.alarm) is not None:
        window = task.built_until
        problem = f"{task.state}: {task.reason}" + (f". {task.last_error}" if task.last_error else "")
        result.add([Finding(task.symbol, task.timeframe, window, problem, None, severity)], count=1)
    return result


def check_gaps(task: Task, reports: Sequence[GapReport]) -> CheckResult:
    """Check the source of a task: one warning per gap of missing bars, none for quiet and closed ones.

    A gap is no error, since late bars may fill it.
    """
    missing = [gap for report in reports for gap in report.gaps if gap.kind == "missing"]
    result = CheckResult("no_gaps", task.symbol, task.timeframe)
    result.checked = sum(report.found for report in reports) + sum(gap.missing for gap in missing)
    findings = []
    for gap in missing[:MAX_FINDINGS]:
        problem = f"{gap.missing} source bars are missing until {gap.to_utc:%Y-%m-%d %H:%M}"
        findings.append(Finding(task.symbol, task.timeframe, gap.from_utc, problem, None, "warn"))
    result.add(findings, count=len(missing))
    return result


def check_coverage(task: Task, reports: Sequence[GapReport], begin: dt.datetime) -> CheckResult:
    """Check that at most MAX_MISSING of the expected source bars are missing; above one half it is an error."""
    missing = sum(gap.missing for report in reports for gap in report.gaps if gap.kind == "missing")
    expected = missing + sum(report.found for report in reports)
    result = CheckResult("coverage", task.symbol, task.timeframe, checked=expected)
    if expected and (share := missing / expected) > MAX_MISSING:
        problem = f"{missing:,} of {expected:,} source bars are missing from here on"
        severity: Severity = "error" if share > 0.5 else "warn"
        finding = Finding(task.symbol, task.timeframe, begin, problem, round(share, 4), severity)
        result.add([finding], count=1)
    return result


def check_misplaced_rows(symbol: str, rows: Sequence[Misplaced]) -> list[CheckResult]:
    """Check for rows that no task reads (right_table) and rows that are stored twice (no_duplicates)."""
    results = []
    for check, kind in (("right_table", "wrong table"), ("no_duplicates", "duplicate")):
        result = CheckResult(check, symbol, Timeframe.M1.value, is_raw=True, checked=1)
        for row in rows:
            if row.kind == kind:
                finding = Finding(symbol, row.timeframe, row.first_utc, str(row), float(row.rows), "warn")
                result.add([finding], count=row.rows)
        results.append(result)
    return results
