"""Results of registering assets and loading raw bars."""

from pydantic import AwareDatetime

from agg_pipeline.database.models.base import Wire


class SyncResult(Wire):
    """JSON of ``sync_agg_state_from_registry`` and ``agg_register_asset``: tasks that were created or changed."""

    tasks_created: int
    tasks_updated: int
    agg_start_utc: AwareDatetime | None = None
    registered: bool = False


class LoadResult(Wire):
    """JSON of ``agg_load_bars``: raw bars of one batch, counted by what the upsert did."""

    inserted: int
    updated: int
    unchanged: int
