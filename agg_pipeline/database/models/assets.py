"""Results of registering assets and loading raw bars."""

from pydantic import AwareDatetime, Field

from agg_pipeline.database.models.base import Wire
from agg_pipeline.database.models.tasks import Refusal


class SyncResult(Wire):
    """JSON of ``sync_agg_state_from_registry`` and ``agg_register_asset``: tasks that were created or changed."""

    tasks_created: int
    tasks_updated: int
    agg_start_utc: AwareDatetime | None = None
    registered: bool = False


class LoadFault(Wire):
    """A symbol whose bars the database refused, as a trigger or constraint of its owner may."""

    symbol: str = Field(alias="canonical_symbol")
    error: Refusal


class LoadResult(Wire):
    """JSON of ``agg_load_bars``: raw bars of one batch, counted by what the upsert did."""

    inserted: int
    updated: int
    unchanged: int
    failed_bars: int = Field(0, description="Bars of the symbols in ``failed``; none of them was stored.")
    failed: tuple[LoadFault, ...] = ()
