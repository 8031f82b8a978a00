"""Results of rebuilds, of the search for wrong bars, and of the repair of cursors."""

from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task, Wire


class LevelRebuild(Wire):
    """Counts of bars that a rebuild changed in one timeframe."""

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
    """Counts of two rebuilds, added per timeframe."""
    return {
        name: one.get(name, NOTHING_REBUILT) + other.get(name, NOTHING_REBUILT)
        for name in [*one, *(other.keys() - one.keys())]
    }


class BarChange(Wire):
    """A bar that a rebuild changes. ``fields``: (before, after) of each field that a revision changes."""

    timeframe: str
    ts_utc: AwareDatetime
    change: Literal["created", "revised", "retired"]
    fields: dict[str, tuple[object, object]]


class RebuildResult(LevelRebuild):
    """JSON of ``agg_rebuild_range``: totals, counts per timeframe, the first 100 changes, start of the next call."""

    levels: dict[str, LevelRebuild]
    changes: list[BarChange]
    has_more: bool = Field(alias="continue")
    next_from_utc: AwareDatetime


class Damage(Wire):
    """JSON of ``agg_find_damage``: counts by kind and range of the bars that differ from a recomputation."""

    evaluated: int = Field(alias="judged", description="Windows with source rows or a bar that were recomputed.")
    kinds: dict[str, int]
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None
    has_more: bool = Field(alias="continue")
    next_from_utc: AwareDatetime


class BadCursor(Task):
    """Element of ``agg_mend_cursors``: a cursor at an impossible time, or a task left running without a worker."""

    kind: Literal["future", "off_grid", "frozen", "stuck", "impossible"]
    from_utc: AwareDatetime | None
    to_utc: AwareDatetime | None = Field(description="Corrected cursor; None: start of the task. Frozen: unchanged.")
    windows: int | None = Field(description="Windows from the cursor to the newest base bar.")
    leased: bool
