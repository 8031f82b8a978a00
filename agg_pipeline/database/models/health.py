"""How tasks stand."""

import datetime as dt
from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task

State = Literal[
    "disabled", "paused", "failed", "stalled", "waiting for data", "catching up", "waiting for source", "current"
]


class TaskHealth(Task):
    """Row of ``agg_health``. ``lag`` is by the session clock, ``backlog`` by the source."""

    state: State
    reason: str | None = Field(description="Why it is in this state; None where there is nothing to say.")
    waits_for_task: bool = Field(description="It waits for another task of its symbol, which ``reason`` names.")
    source_timeframe: str | None
    status: str
    enabled: bool
    cursor_utc: AwareDatetime | None
    next_window_utc: AwareDatetime = Field(description="The next one that has source bars; else that at the cursor.")
    first_window_utc: AwareDatetime
    newest_source_utc: AwareDatetime | None
    lag_windows: int | None
    lag_seconds: int | None = Field(description="Open market between the next window and the one in progress.")
    backlog_windows: int | None = Field(description="Windows that the source has left behind and that are not built.")
    touched_windows: int = Field(description="Built windows whose source changed, to be built again.")
    touched_from_utc: AwareDatetime | None = Field(default=None, description="The first of them.")
    source_silent_seconds: int | None = Field(description="Open market since the end of the newest source bar.")
    completeness_hour: float | None = Field(description="Bars built of those expected, 0 to 1; None: none expected.")
    completeness_day: float | None
    next_run_at: AwareDatetime | None
    last_attempted_at_utc: AwareDatetime | None
    last_successful_at_utc: AwareDatetime | None
    hard_fail_streak: int
    transient_streak: int
    last_error: str | None
    paused_at_utc: AwareDatetime | None
    paused_until_utc: AwareDatetime | None
    lease_owner: str | None
    lease_expires_at: AwareDatetime | None

    @property
    def alarm(self) -> Literal["warn", "error"] | None:
        """Whether somebody has to look at it; of a task that waits for another task, at that one."""
        if self.state in ("failed", "stalled") or (self.state == "disabled" and self.status == "disabled"):
            return "error"
        return "warn" if self.state == "waiting for source" and not self.waits_for_task else None

    @property
    def is_paused(self) -> bool:
        """Whether an operator's pause holds now; one without an end holds until it is resumed."""
        until = self.paused_until_utc
        return self.paused_at_utc is not None and (until is None or until > dt.datetime.now(dt.UTC))
