"""Keys of the assets of this environment, and names of what else an instance holds once for all of its environments.

One Dagster instance may serve several environments. It knows assets by their keys and pools by their names alone, so
the environment is a part of both. Jobs, schedules and sensors belong to a code location, so their names need none.
"""

import dagster as dg

from agg_pipeline.market.timeframes import LADDER
from agg_pipeline.settings import load_settings

RAW = "raw"


def bars_key(timeframe: str) -> dg.AssetKey:
    """Key of the bars of a timeframe, or of the raw ones (RAW): prod/bars_5m; bars_5m if ASSET_KEY_PREFIX is empty."""
    return dg.AssetKey([*load_settings().asset_prefix, f"bars_{timeframe}"])


def all_keys() -> list[dg.AssetKey]:
    """Keys of all assets of this environment."""
    return [bars_key(timeframe) for timeframe in (RAW, *LADDER)]


def backfill_pool() -> str:
    """Concurrency pool with one slot: a second backfill waits in the run queue, where it needs no process."""
    return f"agg_backfill_{load_settings().env_name.value.lower()}"
