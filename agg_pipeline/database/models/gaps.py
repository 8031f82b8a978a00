"""Source bars that are missing or in the wrong place."""

from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class Misplaced(Wire):
    """Rows of a symbol that nothing reads, or that are there twice (``agg_misplaced_rows``)."""

    kind: Literal["wrong table", "duplicate"]
    table: str
    timeframe: str
    rows: int
    first_utc: AwareDatetime

    def __str__(self) -> str:
        what = "are there more than once" if self.kind == "duplicate" else "are read by no task of the symbol"
        return f"{self.rows:,} {self.timeframe} rows of {self.table} {what}"


class Gap(Wire):
    """A run of absent source bars, [from_utc, to_utc); ``missing``: those among them that were expected."""

    from_utc: AwareDatetime
    to_utc: AwareDatetime
    kind: Literal["closed", "quiet", "missing"]
    missing: int
    age_seconds: int

    def __str__(self) -> str:
        return f"{self.from_utc:%Y-%m-%d %H:%M} to {self.to_utc:%Y-%m-%d %H:%M}"


class GapReport(Task):
    """JSON of ``agg_gap_report``: the gaps of a task's source in a range of time, and its rows counted."""

    found: int = Field(description="Valid source rows, expected or not.")
    rejected: int = Field(description="Source rows that were not valid; they count as absent.")
    late: int = Field(description="Raw rows that came, or were last written, after the deadline of their window.")
    gaps: list[Gap]
