"""Materializations that runs report: one of each timeframe with its figures, and one of each other day that changed.

The database notes the days that change. A run that is killed after it has stored bars reports none of them; the next
run does.
"""

import datetime as dt
from collections.abc import Collection, Iterator

import dagster as dg

from agg_pipeline.aggregation.metrics import TimeframeTotals
from agg_pipeline.database.models.runs import TouchedDays
from agg_pipeline.market.timeframes import LADDER
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline.orchestration.days import FIRST_DAY
from agg_pipeline.orchestration.metadata import day_metadata, runlog_metadata
from agg_pipeline.orchestration.tick_sample import TickMetrics

PLOTTED_METRICS = (
    "tasks",
    "failed",
    "windows_processed",
    "bars_created",
    "bars_revised",
    "bars_retired",
    "bars_quality_poor",
    "source_rejected",
)
"""Totals of a timeframe that Dagster plots over time on the page of its asset."""


def day_materializations(
    touched: TouchedDays, reported: Collection[tuple[str, dt.date]], run_id: str
) -> Iterator[dg.AssetMaterialization]:
    """One for each day of a timeframe, oldest first, but for those that are ``reported`` anyway."""
    for one in sorted(touched.days, key=lambda one: (one.day, one.timeframe)):
        if one.day >= FIRST_DAY and one.timeframe in LADDER and (one.timeframe, one.day) not in reported:
            yield dg.AssetMaterialization(
                bars_key(one.timeframe),
                partition=one.day.isoformat(),
                metadata=runlog_metadata(run_id),
                description=f"{one.timeframe} bars of {one.day} changed.",
            )


def tick_materialization(
    total: TimeframeTotals, metrics: TickMetrics, run_id: str, *, environment: str
) -> dg.AssetMaterialization:
    """The newest day that a tick built of a timeframe, with the totals of the tick."""
    metadata: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(getattr(total, name)) for name in PLOTTED_METRICS
    }
    if (backlog := metrics.backlog(total.timeframe)) is not None:
        metadata["backlog_windows"] = dg.MetadataValue.int(backlog)
    if total.newest_window_utc is not None:
        metadata["newest_window_utc"] = dg.MetadataValue.timestamp(total.newest_window_utc)
        if (day := metrics.day(total.timeframe, total.newest_window_utc.date())) is not None:
            metadata |= day_metadata(day)
    return dg.AssetMaterialization(
        asset_key=bars_key(total.timeframe),
        partition=_day_of(total),
        metadata=metadata | runlog_metadata(run_id),
        description=f"{total.bars_created} {total.timeframe} bars written in {environment} (tasks: {total.tasks}).",
    )


def _day_of(total: TimeframeTotals) -> str | None:
    """The partition of the newest window, None if it is before FIRST_DAY."""
    newest = total.newest_window_utc
    return newest.date().isoformat() if newest is not None and newest.date() >= FIRST_DAY else None
