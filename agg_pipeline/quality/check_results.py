"""Results of checks: names and limits of the checks, findings, and the result of a check for one timeframe.

Imports no pandas, since every tick imports it.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from agg_pipeline.market.number_text import difference

Severity = Literal["warn", "error"]
CHECKS = ("matches_recomputation", "no_gaps", "parents_agree", "prices_sane", "coverage", "lag", "health")
RAW_CHECKS = ("prices_sane", "right_table", "no_duplicates")
CURRENT_STATE_CHECKS = ("lag", "health")
"""Checks of the current state of a task, which do not depend on the range of bars that is checked."""

MAX_FINDINGS = 20
"""Findings that a result stores; all are counted."""


@dataclass(frozen=True)
class Finding:
    """An error in the window that starts at ``window_utc``. ``by``: the difference, None if the error has no number."""

    symbol: str
    timeframe: str
    window_utc: dt.datetime
    problem: str
    by: float | None
    severity: Severity

    def __str__(self) -> str:
        off = "" if self.by is None else f" (by {difference(self.by)})"
        return f"{self.symbol} {self.timeframe} {self.window_utc:%Y-%m-%d %H:%M} UTC: {self.problem}{off}"


@dataclass
class CheckResult:
    """Result of one check for one timeframe of a symbol.

    Attributes:
        checked: number of bars that were checked; source bars found or missing for no_gaps and coverage, tasks for lag
            and health.
        invalidated: wrong windows that the next ticks will rebuild anyway; they are not findings.
        found: number of findings.
        findings: the first MAX_FINDINGS of them, errors before warnings.
        is_raw: whether the check is of raw bars.
    """

    check: str
    symbol: str
    timeframe: str
    is_raw: bool = False
    checked: int = 0
    invalidated: int = 0
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """True if there are no findings."""
        return self.found == 0

    @property
    def severity(self) -> Severity:
        """Severity of the worst finding; error if there is none."""
        return self.findings[0].severity if self.findings else "error"

    def add(self, findings: Iterable[Finding], *, count: int) -> None:
        """Count ``count`` findings and store the first of them.

        Args:
            findings: the first MAX_FINDINGS are enough; fewer than ``count`` where one of them stands for several rows.
        """
        self.found += count
        ordered = sorted([*self.findings, *findings], key=lambda finding: finding.severity)  # stable, error < warn
        self.findings = ordered[:MAX_FINDINGS]
