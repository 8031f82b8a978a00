"""Progress of a backfill: a tag in percent, which the run list shows, and lines in the log of its run."""

import datetime as dt
import time

import dagster as dg

from agg_pipeline.database.rebuilding import OnProgress
from agg_pipeline.orchestration.tags import PROGRESS

LOG_EVERY_S = 4.0
_DAY = dt.timedelta(days=1)


class Progress:
    """What a backfill of [begin, end) of some symbols has done, what is left, how fast it is and when it will end."""

    def __init__(self, context: dg.AssetExecutionContext, begin: dt.datetime, end: dt.datetime, symbols: int) -> None:
        self._context, self._begin, self._length, self._symbols = context, begin, end - begin, symbols
        self._shown = -1
        self._began = self._logged = time.monotonic()

    def of_symbol(self, n: int, symbol: str) -> OnProgress:
        """Callback for the n-th symbol."""

        def update(reached: dt.datetime) -> None:
            part = min(1.0, max(0.0, (reached - self._begin) / self._length))
            self._show(n + part, f"{symbol} up to {reached:%Y-%m-%d %H:%M}")

        return update

    def done(self) -> None:
        self._show(self._symbols, "all symbols")

    def _show(self, done: float, where: str) -> None:
        percent, now = int(100 * done / self._symbols) if self._symbols else 100, time.monotonic()
        if percent > self._shown:
            self._shown = percent
            self._context.instance.add_run_tags(self._context.run.run_id, {PROGRESS: f"{percent} %"})
        if now - self._logged >= LOG_EVERY_S:
            self._logged = now
            days = self._length / _DAY
            rate = done * days / (now - self._began)
            left = (self._symbols - done) * days
            self._context.log.info(
                "%d %%: %s; %d of %d symbols done, %.0f days of a symbol left at %.1f days/s: about %.0f s",
                percent, where, int(done), self._symbols, left, rate, left / rate if rate else float("inf"),
            )  # fmt: skip
