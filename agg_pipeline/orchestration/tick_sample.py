"""What a tick reads after its work: metrics of its tasks, and a sample of its new bars, which it checks.

Bounded however much the tick did: two calls for the metrics, one small page of bars for the checks.
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
"""Most symbols of a tick whose metrics are read."""

SAMPLE_LENGTH = dt.timedelta(hours=1)
"""Least length of a sample; a sample holds at least one window of its longest timeframe."""

_DAY = dt.timedelta(days=1)
_MAX_DAYS = 7  # from the oldest to the newest window whose day is read


@dataclass(frozen=True)
class TickMetrics:
    """Health of the tasks of a tick after it, and their bars by quality on the days of the newest windows."""

    health: Sequence[TaskHealth] = ()
    days: Sequence[DayOfBars] = ()

    def backlog(self, timeframe: str) -> int | None:
        """Largest backlog of a task of the timeframe, in windows; None if no such task was read."""
        return max((task.backlog_windows or 0 for task in self.health if task.timeframe == timeframe), default=None)

    def day(self, timeframe: str, day: dt.date) -> DayOfBars | None:
        return next((one for one in self.days if (one.timeframe, one.day) == (timeframe, day)), None)


def read_metrics(
    gateway: AggGateway, outcomes: Sequence[TaskOutcome], totals: Sequence[TimeframeTotals]
) -> TickMetrics:
    """Read the metrics of a tick. Raises GatewayError."""
    symbols = list(dict.fromkeys(outcome.symbol for outcome in outcomes))[:MAX_SYMBOLS]
    newest = [total.newest_window_utc for total in totals if total.newest_window_utc is not None]
    if not newest:
        return TickMetrics()
    tasks = {(outcome.symbol, outcome.timeframe) for outcome in outcomes}
    health = [task for task in gateway.health(symbols) if (task.symbol, task.timeframe) in tasks]
    end = window_start(max(newest), Timeframe.D1) + _DAY
    begin = max(window_start(min(newest), Timeframe.D1), end - _MAX_DAYS * _DAY)
    return TickMetrics(health, gateway.bars_by_day(symbols, begin, end))


def sample_checks(
    gateway: AggGateway, outcomes: Sequence[TaskOutcome], metrics: TickMetrics, *, seed: str
) -> list[dg.AssetCheckEvaluation]:
    """Check lag and health of all tasks and, unless there is a backlog, the newest bars of one symbol.

    With a backlog the next tick starts at once and must not wait for the check of a sample.

    Args:
        seed: of the random choice of the symbol.
    Raises:
        GatewayError: the bars could not be read.
    """
    results = [result for task in metrics.health for result in (check_lag(task), check_health(task))]
    found = list(evaluations(results, f"{len(metrics.health)} tasks of this tick"))
    symbols = {task.symbol for task in metrics.health}
    built = [o for o in outcomes if o.symbol in symbols and o.result and o.result.windows_processed]
    if not built or any(outcome.result and outcome.result.has_more for outcome in outcomes):
        return found
    from agg_pipeline.quality.checks import check_bars

    symbol = random.Random(seed).choice(sorted({outcome.symbol for outcome in built}))  # noqa: S311 - no secret
    frontiers = {
        o.timeframe: o.result.frontier for o in built if o.symbol == symbol and o.result and o.timeframe in LADDER
    }
    longest = max(map(Timeframe, frontiers), key=lambda timeframe: timeframe.minutes)
    end = max(frontier for frontier in frontiers.values() if frontier is not None)
    begin = window_start(end, longest) - max(SAMPLE_LENGTH, longest.length)
    health = [task for task in metrics.health if task.symbol == symbol]
    checked = check_bars(gateway, symbol, begin=begin, end=end, timeframes=frontiers, health=health)
    of_bars = [one for one in checked if one.check not in CURRENT_STATE_CHECKS and one.checked]
    scope = f"a sample, {symbol} from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
    return found + list(evaluations(of_bars, scope))
