"""Calls for assets, their raw bars and their trading calendars."""

import datetime as dt
from collections.abc import Iterable, Sequence

from agg_pipeline.database.gateway.calls import Calls
from agg_pipeline.database.models.assets import LoadResult, SyncResult
from agg_pipeline.database.models.calendars import CalendarChange, Calendars
from agg_pipeline.errors import PermanentError
from agg_pipeline.market.calendars import Calendar
from agg_pipeline.market.names import SymbolError, check_symbol


class AssetCalls(Calls):
    """Register assets, load raw bars, maintain trading calendars."""

    def register_asset(
        self, symbol: str, *, start: dt.datetime, base_timeframe: str, asset_class: str | None = None
    ) -> SyncResult:
        """Register an asset if it is new and create its tasks, which begin at ``start`` (agg_register_asset).

        Args:
            asset_class: of a new asset, which follows fx_24x5 if it is fx, else 24x7.
        Raises:
            PermanentError: ``symbol`` is no name of a symbol (market/names.py), or the database refuses it.
        """
        _check_symbols("agg_register_asset", [symbol])
        return self._call(
            "agg_register_asset", SyncResult,
            p_symbol=symbol, p_agg_start_utc=start, p_base_timeframe=base_timeframe, p_asset_class=asset_class,
        )  # fmt: skip

    def load_bars(self, bars: Sequence[dict[str, object]], *, timeframe: str, source: str) -> LoadResult:
        """Upsert raw bars, one dict per bar with the columns of data_bars as keys (agg_load_bars).

        Raises PermanentError if a ``canonical_symbol`` is no name of a symbol (market/names.py).
        """
        _check_symbols("agg_load_bars", dict.fromkeys(str(bar.get("canonical_symbol", "")) for bar in bars))
        return self._call("agg_load_bars", LoadResult, p_bars=list(bars), p_timeframe=timeframe, p_source=source)

    def calendars(self) -> Calendars:
        """Calendars that assets follow, the range of their sessions, and proposed changes (agg_calendars)."""
        return self._call("agg_calendars", Calendars)

    def refresh_calendar(self, calendar: Calendar, *, dry_run: bool) -> CalendarChange:
        """Replace the sessions of a calendar in its range; ``dry_run`` only reports (agg_refresh_calendar).

        A statement timeout is not retried: the windows to invalidate are too many, and a tick waits for this call.
        """
        return self._call(
            "agg_refresh_calendar", CalendarChange, left_to_caller=("57014",),
            p_calendar=calendar.model_dump(mode="json"), p_dry_run=dry_run,
        )  # fmt: skip

    def set_calendar(self, symbol: str, calendar: str, *, begin: dt.datetime | None = None) -> None:
        """Make a symbol follow a calendar from ``begin`` on, a UTC midnight; None: always (agg_set_calendar)."""
        self._call("agg_set_calendar", object, p_symbol=symbol, p_calendar=calendar, p_from_utc=begin)


def _check_symbols(function: str, symbols: Iterable[str]) -> None:
    try:
        for symbol in symbols:
            check_symbol(symbol)
    except SymbolError as exc:
        raise PermanentError(function, type(exc).__name__, str(exc), "Give the symbol another name.") from None
