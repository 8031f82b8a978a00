"""Days that can be picked for a backfill: the daily partitions of the bars."""

import datetime as dt

FIRST_DAY = dt.date(1990, 1, 1)
"""First partition, UTC. Dagster makes partitions while it loads, when no database may answer, so it cannot be the first
day that has raw bars; intraday bars from before it are rare, and ticks and rebuilds know no first day."""
