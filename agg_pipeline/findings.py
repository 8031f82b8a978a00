"""What checks find, and the checks that need no bars: lag and gaps. Light to import: every tick does."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Literal

from agg_pipeline.models import GapReport, TaskHealth

Severity = Literal["warn", "error"]
CHECKS = ("matches_recomputation", "no_gaps", "parents_agree", "prices_sane", "lag")
KEPT = 20  # findings of a check and timeframe that are kept; all are counted
MAX_LAG_WINDOWS = 3
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
        checked: bars that were judged; for no_gaps source bars that are there or should be, for lag tasks.
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
        for gap in gaps[:KEPT]:
            problem = f"{gap.missing} source bars are missing until {gap.to_utc:%Y-%m-%d %H:%M}"
            self.keep(Finding(self.symbol, self.timeframe, gap.from_utc, problem, None, "warn"))

    def keep(self, finding: Finding) -> None:
        """Keep a finding if it is one of the first; whoever found it counts it."""
        self.findings = sorted([*self.findings, finding], key=lambda kept: kept.severity)[:KEPT]  # stable
