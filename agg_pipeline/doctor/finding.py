"""Findings: severity, subject, what was found, and the command to type."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MIGRATE = "agg-pipeline migrate"
AGAIN = "agg-pipeline migrate --again"
PLAN = "agg-pipeline repair --plan"
APPLY = "agg-pipeline repair --apply"


class Severity(StrEnum):
    """error: nothing works until it is corrected; warning: something has to be done; note: nothing has to be done."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """A finding. ``about``: its subject; ``remedy``: the command to type, or the reason why none is needed."""

    severity: Severity
    about: str
    found: str
    remedy: str


def join_names(names: Sequence[str], limit: int = 8) -> str:
    """The first ``limit`` names separated by commas, and the number of the others."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
