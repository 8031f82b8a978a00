"""Put one file of raw bars into the database: register its symbols, upsert in batches, list what was not loaded."""

import datetime as dt
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from agg_pipeline.cli.app import console, errors
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.assets import LoadResult
from agg_pipeline.ingest.bar_file import BarFile, Reject
from agg_pipeline.market.timeframes import Timeframe

BATCH_ROWS = 5_000  # about 1 MB of JSON and 0.2 s a call


def load_file(gateway: AggGateway, path: Path, base: Timeframe, start: dt.datetime | None) -> int:
    """Load a file; say what came of it.

    Args:
        base: timeframe of its bars.
        start: where the tasks of symbols that are new start; None: at the UTC day of their first bar in the file.
    Returns:
        How many rows were rejected.
    """
    rejects = _Rejects(path)
    file = BarFile(path, base)
    starts: dict[str, dt.datetime | None] = {}
    early: dict[str, dt.datetime] = {}
    future: dict[str, dt.datetime] = {}
    now = dt.datetime.now(dt.UTC)
    inserted = updated = unchanged = 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(path.name, total=file.size_bytes)
        for batch in file.batches(rejects, rows=BATCH_ROWS):
            for row in batch:
                if row["canonical_symbol"] not in starts:
                    first = dt.datetime.fromisoformat(str(row["ts_utc"])).replace(hour=0, minute=0)
                    starts[row["canonical_symbol"]] = gateway.register_asset(
                        row["canonical_symbol"], start=start or first, base_timeframe=base.value
                    ).agg_start_utc
            result: LoadResult = gateway.load_bars([dict(row) for row in batch], timeframe=base.value, source="file")
            inserted, updated, unchanged = (
                inserted + result.inserted,
                updated + result.updated,
                unchanged + result.unchanged,
            )
            for row in batch:
                symbol, ts_utc = row["canonical_symbol"], dt.datetime.fromisoformat(str(row["ts_utc"]))
                begins = starts[symbol]
                if begins is not None and ts_utc < begins:
                    early[symbol] = begins
                if ts_utc > max(now, future.get(symbol, now)):
                    future[symbol] = ts_utc
            progress.update(bar, completed=file.position_bytes)
    console.print(
        f"{path.name}: {inserted:,} bars inserted, {updated:,} updated, {unchanged:,} unchanged, "
        f"{rejects.count:,} rows rejected ({', '.join(sorted(starts)) or 'no symbol'}).",
        highlight=False,
    )
    for symbol, begins in early.items():
        errors.print(
            f"[yellow]{symbol}: bars before {begins:%Y-%m-%d %H:%M} are stored but not rolled up; its tasks start then "
            "(data_agg_state.agg_start_utc).[/]",
            highlight=False,
        )
    for symbol, newest in future.items():
        errors.print(
            f"[yellow]{symbol}: bars are later than now, up to {newest:%Y-%m-%d %H:%M} UTC. Are the file's times UTC? "
            "Until then a silent feed is not noticed; docs/operations.md, The feed stopped, takes them out again.[/]",
            highlight=False,
        )
    return rejects.count


class _Rejects:
    """Shows each bad row as it comes, and counts them."""

    def __init__(self, path: Path) -> None:
        self._path, self.count = path, 0

    def __call__(self, reject: Reject) -> None:
        self.count += 1
        errors.print(f"[yellow]{self._path.name} {escape(str(reject))}[/]", highlight=False, soft_wrap=True)
