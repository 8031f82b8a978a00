"""Inspection of the range of a backfill: its bars are counted, checked and drawn.

Bounded, so that it takes seconds after a long backfill too. A range of up to MAX_DAYS is checked as a whole; of a
longer one SAMPLE_DAYS are checked: the last days for one half, SAMPLE_PARTS parts spread evenly over the other days for
the other half. Both limits are days of all symbols together.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import dagster as dg

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.bars import BarSummary, DayOfBars
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.orchestration.check_evaluations import evaluations
from agg_pipeline.quality.check_results import CURRENT_STATE_CHECKS
from agg_pipeline.reading.extent import extent

MAX_DAYS = 92  # 132,480 raw 1m bars: three seconds
SAMPLE_DAYS = 40
SAMPLE_PARTS = 5

MAX_CHARTS = 3
"""Most symbols that are drawn."""

RECENT_DAYS = 7
"""Days of each symbol that the button *Execute* of the checks checks."""

_DAY = dt.timedelta(days=1)
Range = tuple[dt.datetime, dt.datetime]


@dataclass(frozen=True)
class Inspection:
    """Bars of a range by task and by day, evaluations of the checks, and a chart per timeframe in Markdown."""

    bars: Sequence[BarSummary] | None = None  # None: not counted
    days: Sequence[DayOfBars] = ()
    evaluations: Sequence[dg.AssetCheckEvaluation] = ()
    charts: Mapping[Timeframe, str] = field(default_factory=dict)


def ranges_to_check(begin: dt.datetime, end: dt.datetime, symbols: int) -> list[Range]:
    """Parts of [begin, end), which are whole days, to check of each of ``symbols`` symbols; the last ends at end."""
    days, sample = (end - begin) // _DAY, max(1, SAMPLE_DAYS // symbols)
    if days * symbols <= MAX_DAYS or days <= sample:
        return [(begin, end)]
    count = min(SAMPLE_PARTS, sample // 2)
    size = sample // 2 // count if count else 0
    tail = end - (sample - count * size) * _DAY
    before = (tail - begin) // _DAY
    starts = [begin + n * before // count * _DAY for n in range(count)]
    return [*((start, min(start + size * _DAY, tail)) for start in starts), (tail, end)]


def inspect_range(
    gateway: AggGateway, symbols: Sequence[str], timeframes: Sequence[Timeframe], begin: dt.datetime, end: dt.datetime
) -> Inspection:
    """Count, check and draw the bars of whole days, [begin, end), of symbols that have tasks of these timeframes.

    Raises:
        GatewayError: the bars could not be read.
    """
    import pandas as pd  # half a second to import, which the other processes of Dagster need not wait for

    from agg_pipeline.quality.checks import check_bars
    from agg_pipeline.reading.pages import Bars
    from agg_pipeline.reading.svg_chart import NEWEST, as_markdown, candles_svg

    chosen = _evenly_chosen(symbols, SAMPLE_DAYS)
    parts = ranges_to_check(begin, end, len(chosen))
    results = []
    newest: dict[Timeframe, dict[str, pd.DataFrame]] = {timeframe: {} for timeframe in timeframes}

    def keep(symbol: str, bars: Bars) -> None:
        for timeframe in newest.keys() & bars.tasks.keys():
            before, stored = newest[timeframe].get(symbol), bars.stored(timeframe)
            newest[timeframe][symbol] = (stored if before is None else pd.concat([before, stored])).tail(NEWEST)

    for symbol in chosen:
        health = gateway.health([symbol])
        for first, stop in parts:
            is_drawn = stop == end and symbol in chosen[:MAX_CHARTS]
            found = check_bars(
                gateway, symbol, begin=first, end=stop, timeframes=timeframes, health=health,
                on_page=partial(keep, symbol) if is_drawn else None,
            )  # fmt: skip
            results += [one for one in found if one.check not in CURRENT_STATE_CHECKS or stop == end]
    charts = {
        timeframe: "\n\n".join(
            as_markdown(candles_svg(bars, title=f"{symbol} {timeframe}")) for symbol, bars in drawn.items()
        )
        for timeframe, drawn in newest.items()
    }
    scope = _scope(symbols, chosen, begin, end, parts)
    return Inspection(
        bars=gateway.bar_summary(symbols, begin, end),
        days=gateway.bars_by_day(symbols, begin, end),
        evaluations=[
            *evaluations([one for one in results if one.check not in CURRENT_STATE_CHECKS], scope),
            *evaluations(
                [one for one in results if one.check in CURRENT_STATE_CHECKS],
                f"the tasks of {_listed(symbols, chosen)}",
            ),
        ],
        charts=charts,
    )


def check_recent(gateway: AggGateway, symbols: Sequence[str] | None) -> list[dg.AssetCheckEvaluation]:
    """Check the last RECENT_DAYS of the bars of each symbol; None: of all.

    Raises:
        ValueError: a symbol has no tasks.
        GatewayError: the bars could not be read.
    """
    from agg_pipeline.quality.checks import check_bars

    gateway.check_contract()
    tasks, results = [task for task in gateway.health(symbols) if task.timeframe in LADDER], []
    for symbol in symbols or dict.fromkeys(task.symbol for task in tasks):
        own = [task for task in tasks if task.symbol == symbol]
        _, end = extent(own)
        results += check_bars(gateway, symbol, begin=end - RECENT_DAYS * _DAY, end=end, health=own)
    checked = list(dict.fromkeys(result.symbol for result in results))
    return list(evaluations(results, f"the last {RECENT_DAYS} days of {_listed(checked, checked)}"))


def _evenly_chosen(symbols: Sequence[str], most: int) -> Sequence[str]:
    return symbols if len(symbols) <= most else [symbols[n * len(symbols) // most] for n in range(most)]


def _scope(
    symbols: Sequence[str], chosen: Sequence[str], begin: dt.datetime, end: dt.datetime, parts: Sequence[Range]
) -> str:
    names = _listed(symbols, chosen)
    days = f"{begin:%Y-%m-%d} to {end - _DAY:%Y-%m-%d}"
    if len(parts) == 1 and parts[0] == (begin, end):
        return f"{names}, all days from {days}"
    lengths = [(stop - first) // _DAY for first, stop in parts]
    spread = f", and {sum(lengths[:-1])} spread over the others" if lengths[:-1] else ""
    return f"{names}, a sample of the days from {days}: the last {lengths[-1]}{spread}"


def _listed(symbols: Sequence[str], chosen: Sequence[str]) -> str:
    names = ", ".join(chosen[:10]) + (", ..." if len(chosen) > 10 else "")
    return names if len(chosen) == len(symbols) else f"{len(chosen)} of {len(symbols)} symbols: {names}"
