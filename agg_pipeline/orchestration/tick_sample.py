"""What a tick looks at beside its work: how its tasks stand, and a sample of what it wrote.

All of it is bounded, however much a tick did: two reads for the figures, one small page of bars for the checks.
"""

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from agg_pipeline.aggregation.metrics import TimeframeTotals
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.bars import DayOfBars
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.market.timeframes import LADDER, Timeframe, window_start
from agg_pipeline.orchestration.check_evaluations import evaluations
from agg_pipeline.quality.check_results import CURRENT_STATE_CHECKS
from agg_pipeline.quality.task_checks import check_health, check_lag

MAX_SYMBOLS = 50
"""Symbols of a tick whose lag and quality are read."""

SAMPLE = dt.timedelta(hours=1)
"""A sample reaches back from the newest window for so long, or for the longest timeframe in it."""

_DAY = dt.timedelta(days=1)
_MAX_DAYS = 7  # between the newest windows of a tick's timeframes


@dataclass(frozen=True)
class Figures:
    """How the tasks of a tick stand after it."""

    health: Sequence[TaskHealth] = ()
    days: Sequence[DayOfBars] = ()

    def lag(self, timeframe: str) -> int | None:
        """The most windows that a task is behind its source; None if none was looked at."""
        return max((task.backlog_windows or 0 for task in self.health if task.timeframe == timeframe), default=None)

    def day(self, timeframe: str, day: dt.date) -> DayOfBars | None:
        return next((one for one in self.days if (one.timeframe, one.day) == (timeframe, day)), None)


def read_figures(gateway: AggGateway, outcomes: Sequence[TaskOutcome], totals: Sequence[TimeframeTotals]) -> Figures:
    """Lag of the tasks, and bars by quality on the days of the newest windows. Raises GatewayError."""
    symbols = list(dict.fromkeys(outcome.symbol for outcome in outcomes))[:MAX_SYMBOLS]
    newest = [total.newest_window_utc for total in totals if total.newest_window_utc is not None]
    if not newest:
        return Figures()
    ran = {(outcome.symbol, outcome.timeframe) for outcome in outcomes}
    health = [task for task in gateway.health(symbols) if (task.symbol, task.timeframe) in ran]
    end = window_start(max(newest), Timeframe.D1) + _DAY
    begin = max(window_start(min(newest), Timeframe.D1), end - _MAX_DAYS * _DAY)
    return Figures(health, gateway.bars_by_day(symbols, begin, end))


def sample_checks(
    gateway: AggGateway, outcomes: Sequence[TaskOutcome], figures: Figures, *, seed: str
) -> list[dg.AssetCheckEvaluation]:
    """Check the lag of all tasks and, unless there is a backlog, the newest bars of one symbol.

    With a backlog the next tick starts at once, and should not wait for this.

    Args:
        seed: chooses the symbol; of another run it chooses another.
    Raises:
        GatewayError: the bars could not be read.
    """
    results = [result for task in figures.health for result in (check_lag(task), check_health(task))]
    found = list(evaluations(results, f"{len(figures.health)} tasks of this tick"))
    looked_at = {task.symbol for task in figures.health}
    built = [o for o in outcomes if o.symbol in looked_at and o.result and o.result.windows_processed]
    if not built or any(outcome.result and outcome.result.has_more for outcome in outcomes):
        return found
    from agg_pipeline.quality.checks import check_bars

    symbol = random.Random(seed).choice(sorted({outcome.symbol for outcome in built}))  # noqa: S311 - no secret
    own = {o.timeframe: o.result.frontier for o in built if o.symbol == symbol and o.result and o.timeframe in LADDER}
    longest = max(map(Timeframe, own), key=lambda timeframe: timeframe.minutes)
    end = max(frontier for frontier in own.values() if frontier is not None)
    begin = window_start(end, longest) - max(SAMPLE, longest.length)
    checked = check_bars(
        gateway, symbol, begin=begin, end=end, timeframes=own, health=[t for t in figures.health if t.symbol == symbol]
    )
    said = f"a sample, {symbol} from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    return found + list(
        evaluations((one for one in checked if one.check not in CURRENT_STATE_CHECKS and one.checked), said)
    )
