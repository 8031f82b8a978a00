"""The demonstration: made-up bars of three markets through the real job."""

import datetime as dt

import pandas as pd
from rich.progress import track

from agg_pipeline.cli.app import CommandError, console
from agg_pipeline.cli.in_process_run import run_job
from agg_pipeline.cli.load_file import BATCH_ROWS
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.ingest.demo_bars import DEMO_ASSETS, generate

_COLUMNS = ["canonical_symbol", "ts_utc", "open", "high", "low", "close", "vol", "vwap", "trade_count"]
_MAX_WINDOWS = 10_000  # two weeks in one tick; a live tick needs one window a task


def run_demo(gateway: AggGateway, now: dt.datetime, days: int) -> None:
    """Load ``days`` days of bars up to ``now`` and run the job until nothing is due."""
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=days)
    for symbol, asset in DEMO_ASSETS.items():
        gateway.register_asset(symbol, start=start, base_timeframe=asset.base_timeframe.value)
        # The bar in progress is not there yet.
        bars = _records(generate(symbol, start, now - asset.base_timeframe.length))
        for n in track(
            range(0, len(bars), BATCH_ROWS),
            f"Loading {symbol}",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            gateway.load_bars(bars[n : n + BATCH_ROWS], timeframe=asset.base_timeframe.value, source="demo")
        console.print(f"Loaded {len(bars):,} {asset.base_timeframe.value} bars of {symbol}.", highlight=False)
    ticks = 0
    while gateway.due_tasks("DEV", now=dt.datetime.now(dt.UTC), limit=1, stale_seconds=900):
        ticks += 1
        if ticks > 20:
            raise CommandError(
                "Tasks are still due after 20 ticks, which should not be. `agg-pipeline up` and its UI show why."
            )
        ran = run_job({"max_tasks": 100, "max_windows": _MAX_WINDOWS})
        console.print(f"Tick {ticks}:", *ran.lines, sep="\n  ", highlight=False)
        if not ran.success:
            raise CommandError(ran.failure or "The run failed.")


def _records(bars: pd.DataFrame) -> list[dict[str, object]]:
    """Rows as JSON has them: times as text, unknown as None."""
    rows = bars[_COLUMNS].assign(ts_utc=bars["ts_utc"].map(lambda ts: ts.isoformat())).astype(object)
    return [{str(k): v for k, v in row.items()} for row in rows.where(rows.notna(), None).to_dict("records")]
