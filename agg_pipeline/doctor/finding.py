"""How a finding is worded: what was found, how bad it is, and what to type."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MIGRATE = "agg-pipeline migrate"
AGAIN = "agg-pipeline migrate --again"
PLAN = "agg-pipeline repair --plan"
APPLY = "agg-pipeline repair --apply"


class Severity(StrEnum):
    """error: nothing works before it is mended; warning: something to do; note: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that was found. ``remedy`` is what to type, or why nothing is to be done."""

    severity: Severity
    about: str
    found: str
    remedy: str


def some(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
