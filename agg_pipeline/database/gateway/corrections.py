"""Corrections of stored bars and cursors: rebuild, damage, impossible cursors."""

import datetime as dt
from collections.abc import Sequence

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.rebuild import BadCursor, Damage, RebuildResult


class CorrectionCalls(Calls):
    """Calls that find and correct what is wrong."""

    def rebuild(
        self, task: Task, begin: dt.datetime, end: dt.datetime, *, dry_run: bool, version: int | None = None
    ) -> RebuildResult:
        """Compute built windows again up through the levels, or plan to; at most 5000 a call (agg_rebuild_range)."""
        return self._call(
            "agg_rebuild_range",
            RebuildResult,
            p_symbol=task.symbol,
            p_tf=task.timeframe,
            p_from_utc=begin,
            p_to_utc=end,
            p_dry_run=dry_run,
            p_derivation_version=version,
        )

    def find_damage(self, task: Task, begin: dt.datetime, end: dt.datetime) -> Damage:
        """Built windows whose bar is not what its source gives, by kind; at most 5000 a call (agg_find_damage)."""
        return self._call(
            "agg_find_damage",
            Damage,
            p_symbol=task.symbol,
            p_tf=task.timeframe,
            p_from_utc=begin,
            p_to_utc=end,
        )

    def mend_cursors(
        self, symbols: Sequence[str] | None = None, *, dry_run: bool, now: dt.datetime | None = None
    ) -> list[BadCursor]:
        """Cursors at impossible places and tasks left running; mends them, unless a plan (agg_mend_cursors)."""
        return self._call(
            "agg_mend_cursors", list[BadCursor], p_symbols=symbols or None, p_dry_run=dry_run, p_now_utc=now
        )
