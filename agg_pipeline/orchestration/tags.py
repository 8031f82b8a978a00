"""Tags that runs carry: how one part of the project knows the runs of another."""

ENVIRONMENT = "agg/environment"
"""Environment of a run, dev, test, stage or prod: one Dagster instance may serve all four."""

TICK = "agg/tick"
"""Set on ticks, to the environment: dagster.yaml lets one run per value work at a time."""

SLOT = "agg/slot"
"""Time that the schedule launched a tick for, ISO, UTC."""

WINDOWS = "agg/windows"
"""How many windows a tick built."""

PROGRESS = "agg/progress"
"""How far a backfill is."""

ATTEMPT = "agg/attempt"
"""Which attempt at its tasks a rerun is: the run that failed first was attempt 1."""

ROOT = "agg/root"
"""Run id of attempt 1."""

RERUN_OF = "agg/rerun_of"
"""Run id of the attempt before."""
