"""What checks find, and those that need no bars: lag, health, gaps, misplaced rows. Every tick imports it."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from agg_pipeline.database.models.gaps import GapReport, Misplaced
from agg_pipeline.database.models.health import TaskHealth

Severity = Literal["warn", "error"]
CHECKS = ("matches_recomputation", "no_gaps", "parents_agree", "prices_sane", "coverage", "lag", "health")
RAW_CHECKS = ("prices_sane", "right_table", "no_duplicates")
OF_NOW = ("lag", "health")  # of tasks as they stand, whatever range is looked at
KEPT = 20  # findings of a check and timeframe that are kept; all are counted
MAX_LAG_WINDOWS = 3
MAX_GAP_DENSITY = 0.05  # source bars missing of those expected
CATCHING_UP = dt.timedelta(hours=1)  # since its last success; a task that is behind for longer is stuck


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one window, which starts at ``window_utc``. ``by``: how much, None if no number."""

    symbol: str
    timeframe: str
    window_utc: dt.datetime
    problem: str
    by: float | None
    severity: Severity

    def __str__(self) -> str:
        off = "" if self.by is None else f" (by {self.by:.6g})"
        return f"{self.symbol} {self.timeframe} {self.window_utc:%Y-%m-%d %H:%M} UTC: {self.problem}{off}"


@dataclass
class CheckResult:
    """What one check says about one timeframe of a symbol.

    Attributes:
        checked: bars that were judged; for no_gaps source bars that are there or should be, for lag and health tasks.
        waiting: windows that are wrong and wait to be built again; they are no findings.
        found: all findings.
        findings: the first KEPT of them, errors before warnings.
        of_raw: it is about raw bars.
    """

    check: str
    symbol: str
    timeframe: str
    of_raw: bool = False
    checked: int = 0
    waiting: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.found == 0

    @property
    def severity(self) -> Severity:
        """That of the worst finding; error if there is none."""
        return self.findings[0].severity if self.findings else "error"

    def take_lag(self, task: TaskHealth, limit: int = MAX_LAG_WINDOWS) -> None:
        """Judge how far a task is behind its source: a warning while it works at that, an error when it is stuck.

        One that is paused or disabled is meant to be behind.
        """
        if task.is_paused or not task.enabled or task.status == "disabled":
            return
        self.checked += 1
        if (lag := task.backlog_windows or 0) > limit:
            self.found += 1
            since = dt.datetime.now(dt.UTC) - CATCHING_UP
            catches_up = task.last_successful_at_utc is not None and task.last_successful_at_utc > since
            problem = f"{lag} windows behind the newest source bar, at most {limit} are allowed"
            problem += ", but catching up" if catches_up else ""
            severity: Severity = "warn" if catches_up else "error"
            window = task.cursor_utc or task.first_window_utc
            self.keep(Finding(self.symbol, self.timeframe, window, problem, lag - limit, severity))

    def take_gaps(self, report: GapReport) -> None:
        """Judge the source of a task: a finding for each run of missing bars, quiet and closed ones are none."""
        gaps = [gap for gap in report.gaps if gap.kind == "missing"]
        self.checked += report.found + sum(gap.missing for gap in gaps)
        self.found += len(gaps)
        for gap in gaps[:KEPT]:  # they may heal, so none is an error
            problem = f"{gap.missing} source bars are missing until {gap.to_utc:%Y-%m-%d %H:%M}"
            self.keep(Finding(self.symbol, self.timeframe, gap.from_utc, problem, None, "warn"))

    def take_coverage(self, reports: Sequence[GapReport], begin: dt.datetime) -> None:
        """Judge how much of the source there is: an error when less than half of it."""
        missing = sum(gap.missing for report in reports for gap in report.gaps if gap.kind == "missing")
        self.checked += (expected := missing + sum(report.found for report in reports))
        if expected and (density := missing / expected) > MAX_GAP_DENSITY:
            self.found += 1
            problem = f"{missing:,} of {expected:,} source bars are missing from here on"
            severity: Severity = "error" if density > 0.5 else "warn"
            self.keep(Finding(self.symbol, self.timeframe, begin, problem, round(density, 4), severity))

    def take_health(self, task: TaskHealth) -> None:
        """Judge the state of a task, if it is one that somebody has to look at; a silent source is a warning."""
        if (severity := task.alarm) is not None:
            self.found += 1
            window = task.cursor_utc or task.first_window_utc
            said = f"{task.state}: {task.reason}" + (f". {task.last_error}" if task.last_error else "")
            self.keep(Finding(self.symbol, self.timeframe, window, said, None, severity))
        self.checked += 1

    def take_misplaced(self, rows: Sequence[Misplaced]) -> None:
        """Judge rows that nothing reads, or that are there twice."""
        for row in rows:
            self.found += row.rows
            self.keep(Finding(self.symbol, row.timeframe, row.first_utc, str(row), float(row.rows), "warn"))

    def keep(self, finding: Finding) -> None:
        """Keep a finding if it is one of the first; whoever found it counts it."""
        self.findings = sorted([*self.findings, finding], key=lambda kept: kept.severity)[:KEPT]  # stable
