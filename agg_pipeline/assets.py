"""Bars as assets: raw bars that the ingester writes, and one asset per timeframe with the ladder as its lineage.

They are external to Dagster's own materialization: a tick reports what it wrote (close_run), so that each asset's page
plots bars, revisions and quality over time.
"""

import dagster as dg

from agg_pipeline.timeframes import LADDER

RAW = dg.AssetSpec(
    "bars_raw", group_name="bars", description="Raw 1m and 5m bars in data_bars, written by the ingester."
)


def bar_assets() -> list[dg.AssetSpec]:
    """Raw bars and one spec per derived timeframe, each depending on the timeframe that it is built from."""
    derived = [
        dg.AssetSpec(
            f"bars_{target.value}",
            deps=[f"bars_{source.value}" if source in LADDER else RAW.key],
            group_name="bars",
            description=f"Live {target.value} bars in derived_data_bars, built from {source.value} bars.",
        )
        for target, source in LADDER.items()
    ]
    return [RAW, *derived]
