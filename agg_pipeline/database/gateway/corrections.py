"""Calls that find and correct wrong bars and cursors."""

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.rebuild import BadCursor, Damage, RebuildResult
from agg_pipeline.errors import TransientError
from agg_pipeline.market.timeframes import Timeframe, window_start

log = logging.getLogger(__name__)
P = TypeVar("P", RebuildResult, Damage)


class CorrectionCalls(Calls):
    """Rebuild bars, find bars that differ from a recomputation, repair cursors."""

    def rebuild(
        self, task: Task, begin: dt.datetime, end: dt.datetime, *, dry_run: bool, version: int | None = None
    ) -> RebuildResult:
        """Rebuild at most 5000 built windows and those above them; ``dry_run`` only reports (agg_rebuild_range)."""
        return _in_time(
            lambda stop: self._call(
                "agg_rebuild_range",
                RebuildResult,
                left_to_caller={"57014"},
                p_symbol=task.symbol,
                p_tf=task.timeframe,
                p_from_utc=begin,
                p_to_utc=stop,
                p_dry_run=dry_run,
                p_derivation_version=version,
            ),
            task, begin, end,
        )  # fmt: skip

    def find_damage(self, task: Task, begin: dt.datetime, end: dt.datetime) -> Damage:
        """Find built windows whose bar differs from a recomputation, at most 5000 a call (agg_find_damage)."""
        return _in_time(
            lambda stop: self._call(
                "agg_find_damage",
                Damage,
                left_to_caller={"57014"},
                p_symbol=task.symbol,
                p_tf=task.timeframe,
                p_from_utc=begin,
                p_to_utc=stop,
            ),
            task, begin, end,
        )  # fmt: skip

    def repair_cursors(
        self, symbols: Sequence[str] | None = None, *, dry_run: bool, now: dt.datetime | None = None
    ) -> list[BadCursor]:
        """Find, and unless ``dry_run`` correct, impossible cursors and tasks left running (agg_mend_cursors)."""
        return self._call(
            "agg_mend_cursors", list[BadCursor], p_symbols=symbols or None, p_dry_run=dry_run, p_now_utc=now
        )


def _in_time(call: Callable[[dt.datetime], P], task: Task, begin: dt.datetime, end: dt.datetime) -> P:
    """Call until ``end`` or, after a statement timeout, until half of the range, down to a day; the rest is left."""
    stop = end
    while True:
        try:
            part = call(stop)
        except TransientError as exc:
            # Whole days, so that no window is built in two halves.
            half = window_start(begin + (stop - begin) / 2, Timeframe.D1)
            if exc.code != "57014" or half <= begin:
                raise
            log.warning("%s Trying %s until %s.", exc, task, half)
            stop = half
            continue
        if stop == end or part.has_more:
            return part
        return part.model_copy(update={"has_more": True, "next_from_utc": stop})
