"""Gaps in source bars, and rows in the wrong table or stored twice."""

from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class Misplaced(Wire):
    """Rows of a symbol that no task reads, or that are stored twice (``agg_misplaced_rows``)."""

    kind: Literal["wrong table", "duplicate"]
    table: str
    timeframe: str
    rows: int
    first_utc: AwareDatetime

    def __str__(self) -> str:
        what = "are there more than once" if self.kind == "duplicate" else "are read by no task of the symbol"
        return f"{self.rows:,} {self.timeframe} rows of {self.table} {what}"


class Gap(Wire):
    """Consecutive absent source bars, [from_utc, to_utc); ``missing`` counts those that were expected."""

    from_utc: AwareDatetime
    to_utc: AwareDatetime
    kind: Literal["closed", "quiet", "missing"]
    missing: int
    age_seconds: int

    def __str__(self) -> str:
        return f"{self.from_utc:%Y-%m-%d %H:%M} to {self.to_utc:%Y-%m-%d %H:%M}"


class GapReport(Task):
    """JSON of ``agg_gap_report``: gaps in the source of a task in a range of time, and counts of its rows."""

    found: int = Field(description="Valid source rows, expected or not.")
    rejected: int = Field(description="Source rows that were not valid; they count as absent.")
    late: int = Field(description="Raw rows whose last write came after the deadline of their window.")
    gaps: list[Gap]
