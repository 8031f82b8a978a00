"""Names of run tags. Dagster stores them with each run, so they must not change."""

ENVIRONMENT = "agg/environment"
"""Environment of the run: dev, test, stage or prod. One Dagster instance may serve all four."""

KIND = "agg/kind"
"""What the run does: tick, backfill, checks, retention or calendars."""

TICK = "agg/tick"
"""Environment of a tick; dagster.yaml limits the ticks of an environment to one at a time."""

SLOT = "agg/slot"
"""Minute for which the schedule launched the tick, ISO, UTC."""

WINDOWS = "agg/windows"
"""Number of windows that the tick processed."""

PROGRESS = "agg/progress"
"""Progress of the backfill in percent."""

ATTEMPT = "agg/attempt"
"""Number of the attempt, counted from 1 for the first run that failed."""

ROOT = "agg/root"
"""Run id of attempt 1."""

RERUN_OF = "agg/rerun_of"
"""Run id of the previous attempt."""
