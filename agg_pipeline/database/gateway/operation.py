"""Calls for operators: health, pause, resume, partitions of the coming months."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.health import TaskHealth


class OperationCalls(Calls):
    """Health, pause and resume of tasks; partitions ahead of time."""

    def health(self, symbols: Sequence[str] | None = None) -> list[TaskHealth]:
        """Health of all tasks, or of those of ``symbols``, one row per task (agg_health)."""
        return self._call("agg_health", list[TaskHealth], p_symbols=symbols or None)

    def pause(
        self, symbol: str, timeframe: str | None, *, reason: str, actor: str, until: dt.datetime | None = None
    ) -> int:
        """Pause a task, or all of a symbol, until ``until`` or resume; returns how many (agg_pause_task)."""
        paused = self._call(
            "agg_pause_task",
            dict[str, Any],
            p_symbol=symbol,
            p_tf=timeframe,
            p_reason=reason,
            p_actor=actor,
            p_until_utc=until,
        )
        return int(paused["tasks"])

    def resume(self, symbol: str, timeframe: str | None, *, actor: str) -> int:
        """End a pause and re-enable failed tasks; returns how many (agg_resume_task)."""
        resumed = self._call("agg_resume_task", dict[str, Any], p_symbol=symbol, p_tf=timeframe, p_actor=actor)
        return int(resumed["tasks"])

    def partitions_ahead(self) -> list[str]:
        """Create the monthly partitions of the coming months; returns their names (agg_partitions_ahead)."""
        made: list[str] = self._call("agg_partitions_ahead", dict[str, Any])["made"]
        return made
