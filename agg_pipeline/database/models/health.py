"""State, lag and failures of tasks."""

import datetime as dt
from typing import Literal

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Task

State = Literal[
    "disabled", "paused", "failed", "stalled", "waiting for data", "catching up", "waiting for source", "current"
]


class TaskHealth(Task):
    """Row of ``agg_health``. ``lag`` counts open market time, ``backlog`` counts windows that have source bars."""

    state: State
    reason: str | None = Field(description="Cause of the state; None if the state needs none.")
    waits_for_task: bool = Field(description="It waits for another task of its symbol; that task gives the alarm.")
    source_timeframe: str | None
    status: str
    enabled: bool
    cursor_utc: AwareDatetime | None
    next_window_utc: AwareDatetime | None = Field(
        description="Next window with source bars; if none, that at the cursor. None: its row cannot be computed with."
    )
    first_window_utc: AwareDatetime | None
    newest_source_utc: AwareDatetime | None
    lag_windows: int | None
    lag_seconds: int | None = Field(description="Open market time from the next window to the current one.")
    backlog_windows: int | None = Field(description="Windows with newer source bars that are not built yet.")
    touched_windows: int = Field(description="Built windows that are invalidated.")
    touched_from_utc: AwareDatetime | None = Field(default=None, description="First invalidated window.")
    source_silent_seconds: int | None = Field(description="Open market time since the newest source bar.")
    completeness_hour: float | None = Field(description="Bars built over bars expected, 0 to 1; None: none expected.")
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
        """Severity if an operator has to act, else None. None also while it waits for another task of its symbol."""
        if self.state in ("failed", "stalled") or (self.state == "disabled" and self.status == "disabled"):
            return "error"
        return "warn" if self.state == "waiting for source" and not self.waits_for_task else None

    @property
    def built_until(self) -> dt.datetime:
        """End of the windows that it has passed. Now, if its row cannot be computed with."""
        return self.cursor_utc or self.first_window_utc or dt.datetime.now(dt.UTC)

    @property
    def is_paused(self) -> bool:
        """Whether an operator's pause is in force; a pause without an end lasts until resume."""
        until = self.paused_until_utc
        return self.paused_at_utc is not None and (until is None or until > dt.datetime.now(dt.UTC))
