"""Upload of raw bars: registers their symbols and upserts the rows in batches."""

import datetime as dt
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.assets import LoadResult
from agg_pipeline.errors import REMEDIES, PermanentError
from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.bar_row import BarRow
from agg_pipeline.ingest.demo_bars import DEMO_ASSETS, generate
from agg_pipeline.ingest.rejects import Reject
from agg_pipeline.ingest.sessions import fill_missing

BATCH_ROWS = 5_000  # about 1 MB of JSON and 0.2 s a call

_FLOATS = ("open", "high", "low", "close", "vol", "vwap")

_DEMO_COLUMNS = ["canonical_symbol", "ts_utc", "open", "high", "low", "close", "vol", "vwap", "trade_count"]


@dataclass
class Upload:
    """What an upload did, in rows.

    Attributes:
        stored_to: number of the file's last row that is stored or rejected, with all before it; 0: none yet.
        symbols: start of the tasks of each symbol, None if it has none.
        refused: symbols that the database refused, and why; their rows count as rejected.
        early: symbols with bars before that start, which no task builds from, and the start.
        future: symbols with bars later than now, and the time of the latest.
        calendar_failures: calendars whose sessions could not be stored: a line each.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    stored_to: int = 0
    symbols: dict[str, dt.datetime | None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    early: dict[str, dt.datetime] = field(default_factory=dict)
    future: dict[str, dt.datetime] = field(default_factory=dict)
    calendar_failures: list[str] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """Rows that are in the database now, whether or not they were there before."""
        return self.inserted + self.updated + self.unchanged

    def add(self, batch: LoadResult) -> None:
        self.inserted += batch.inserted
        self.updated += batch.updated
        self.unchanged += batch.unchanged
        self.rejected += batch.failed_bars
        self.refused |= {fault.symbol: str(fault.error) for fault in batch.failed}

    def fill_calendars(self, gateway: AggGateway) -> None:
        """Upload the sessions of calendars that have none yet; what failed once is left to the next tick."""
        if not self.calendar_failures:
            self.calendar_failures = fill_missing(gateway)

    def refuse(self, symbol: str, error: PermanentError) -> None:
        """Note that the database refuses a symbol; raises the error if it would refuse any other as well."""
        if error.code in REMEDIES or error.code == "contract":  # of the project, not of the symbol
            raise error
        self.refused[symbol] = str(error)


def upload_file(
    gateway: AggGateway,
    file: BarFile,
    *,
    start: dt.datetime | None = None,
    asset_class: str | None = None,
    on_reject: Callable[[Reject], None] = lambda reject: None,
    on_progress: Callable[[int], None] = lambda position_bytes: None,
    upload: Upload | None = None,
) -> Upload:
    """Upload a file of bars, in batches that are stored whole or not at all.

    Args:
        start: where the tasks of new symbols start. Default: the UTC day of the symbol's first bar in the file.
        asset_class: of new symbols; fx: they follow calendar fx_24x5.
        on_reject: called for each row that is not valid and therefore not uploaded.
        on_progress: called after each batch with the position in the file, in bytes.
        upload: grows batch by batch; for who must know after an exception what is stored. Default: a new one.
    Raises:
        BarFileError: the file cannot be read.
        GatewayError: the database refused a batch; those before it are stored.
    """
    upload = Upload() if upload is None else upload
    now, base = dt.datetime.now(dt.UTC), file.base_timeframe.value

    def reject(row: Reject) -> None:
        upload.rejected += 1
        on_reject(row)

    for batch in file.batches(reject, rows=BATCH_ROWS):
        times = [(str(row["canonical_symbol"]), dt.datetime.fromisoformat(str(row["ts_utc"]))) for row in batch]
        has_new_symbols = False
        for symbol, ts_utc in times:
            if symbol in upload.refused:
                continue
            if symbol not in upload.symbols:
                first_day = ts_utc.replace(hour=0, minute=0)
                try:
                    registered = gateway.register_asset(
                        symbol, start=start or first_day, base_timeframe=base, asset_class=asset_class
                    )
                except PermanentError as exc:
                    upload.refuse(symbol, exc)
                    continue
                upload.symbols[symbol] = registered.agg_start_utc
                has_new_symbols = True
            begins = upload.symbols[symbol]
            if begins is not None and ts_utc < begins:
                upload.early[symbol] = begins
            if ts_utc > max(now, upload.future.get(symbol, now)):
                upload.future[symbol] = ts_utc
        if has_new_symbols:  # before their bars, from which a tick may build at once
            upload.fill_calendars(gateway)
        bars = [_json(row) for row in batch if row["canonical_symbol"] not in upload.refused]
        upload.rejected += len(batch) - len(bars)
        symbols = {str(row["canonical_symbol"]) for row in bars}
        try:
            if bars:
                upload.add(gateway.load_bars(bars, timeframe=base, source="file"))
        except PermanentError as exc:
            if len(symbols) > 1:  # of one of them alone it would be said in the answer
                raise
            upload.refuse(symbols.pop(), exc)
            upload.rejected += len(bars)
        upload.stored_to = file.last_number
        on_progress(file.position_bytes)
    return upload


def _json(bar: BarRow) -> dict[str, object]:
    """A bar as JSON that keeps every bit: numbers of PostgreSQL's jsonb have no negative zero, so it goes as text."""
    row: dict[str, object] = dict(bar)
    for name in _FLOATS:
        if row[name] == 0 and math.copysign(1, float(str(row[name]))) < 0:
            row[name] = "-0"
    return row


def upload_demo_bars(
    gateway: AggGateway,
    symbol: str,
    start: dt.datetime,
    now: dt.datetime,
    *,
    on_progress: Callable[[float], None] = lambda part: None,
) -> Upload:
    """Upload the generated bars of one of DEMO_ASSETS from ``start`` on that have ended by ``now``.

    Args:
        on_progress: called after each batch with the part that is uploaded, 0 to 1.
    Raises:
        GatewayError: the database refused a batch; those before it are stored.
    """
    upload, asset = Upload(), DEMO_ASSETS[symbol]
    base = asset.base_timeframe
    registered = gateway.register_asset(symbol, start=start, base_timeframe=base.value, asset_class=asset.asset_class)
    gateway.set_calendar(symbol, asset.calendar)
    upload.symbols[symbol] = registered.agg_start_utc
    upload.fill_calendars(gateway)
    bars = _records(generate(symbol, start, now - base.length))
    for first in range(0, len(bars), BATCH_ROWS):
        upload.add(gateway.load_bars(bars[first : first + BATCH_ROWS], timeframe=base.value, source="demo"))
        on_progress(min(1.0, (first + BATCH_ROWS) / len(bars)))
    return upload


def _records(bars: pd.DataFrame) -> list[dict[str, object]]:
    """Rows as JSON has them: times as text, unknown values as None."""
    rows = bars[_DEMO_COLUMNS].assign(ts_utc=bars["ts_utc"].map(lambda ts: ts.isoformat())).astype(object)
    return [{str(k): v for k, v in row.items()} for row in rows.where(rows.notna(), None).to_dict("records")]
