"""Calls that find and correct wrong bars and cursors."""

import datetime as dt
from collections.abc import Sequence

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.rebuild import BadCursor, Damage, RebuildResult


class CorrectionCalls(Calls):
    """Rebuild bars, find bars that differ from a recomputation, repair cursors."""

    def rebuild(
        self, task: Task, begin: dt.datetime, end: dt.datetime, *, dry_run: bool, version: int | None = None
    ) -> RebuildResult:
        """Rebuild at most 5000 built windows and those above them; ``dry_run`` only reports (agg_rebuild_range)."""
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
        """Find built windows whose bar differs from a recomputation, at most 5000 a call (agg_find_damage)."""
        return self._call(
            "agg_find_damage",
            Damage,
            p_symbol=task.symbol,
            p_tf=task.timeframe,
            p_from_utc=begin,
            p_to_utc=end,
        )

    def repair_cursors(
        self, symbols: Sequence[str] | None = None, *, dry_run: bool, now: dt.datetime | None = None
    ) -> list[BadCursor]:
        """Find, and unless ``dry_run`` correct, impossible cursors and tasks left running (agg_mend_cursors)."""
        return self._call(
            "agg_mend_cursors", list[BadCursor], p_symbols=symbols or None, p_dry_run=dry_run, p_now_utc=now
        )
