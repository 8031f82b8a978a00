"""Bars that are computed again, and what a check of stored bars finds."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class LevelRebuild(Wire):
    """One timeframe of a rebuild."""

    written: int = Field(description="Bars written: new ones and revisions.")
    unchanged: int
    revised: int
    retired: int

    def __add__(self, other: "LevelRebuild") -> "LevelRebuild":
        return LevelRebuild(
            written=self.written + other.written,
            unchanged=self.unchanged + other.unchanged,
            revised=self.revised + other.revised,
            retired=self.retired + other.retired,
        )


NOTHING_REBUILT = LevelRebuild(written=0, unchanged=0, revised=0, retired=0)


def add_levels(one: Mapping[str, LevelRebuild], other: Mapping[str, LevelRebuild]) -> dict[str, LevelRebuild]:
    """Sums per timeframe of two rebuilds."""
    return {
        name: one.get(name, NOTHING_REBUILT) + other.get(name, NOTHING_REBUILT)
        for name in [*one, *(other.keys() - one.keys())]
    }


class BarChange(Wire):
    """A bar that a rebuild changes; ``fields`` are [before, after] of those of a revised bar that differ."""

    timeframe: str
    ts_utc: AwareDatetime
    change: Literal["created", "revised", "retired"]
    fields: dict[str, tuple[object, object]]


class RebuildResult(LevelRebuild):
    """JSON of ``agg_rebuild_range``: sums, each level, the first hundred changes, and where the next call begins."""

    levels: dict[str, LevelRebuild]
    changes: list[BarChange]
    has_more: bool = Field(alias="continue")
    next_from_utc: AwareDatetime


class Damage(Wire):
    """JSON of ``agg_find_damage``: bars that a fresh computation would not give, by kind, and where they lie."""

    judged: int = Field(description="Windows with source rows or a bar that were looked at.")
    kinds: dict[str, int]
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None
    has_more: bool = Field(alias="continue")
    next_from_utc: AwareDatetime


class BadCursor(Task):
    """Element of ``agg_mend_cursors``: a cursor where no catch-up leaves one, or a task that nobody works on."""

    kind: Literal["future", "off_grid", "frozen", "stuck"]
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None = Field(description="Where it belongs; None: the start. A frozen one stays.")
    windows: int | None = Field(description="Windows between the cursor and the newest base bar.")
    leased: bool
