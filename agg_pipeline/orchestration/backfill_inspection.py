"""What a backfill looks at when it is done: the bars of its range, counted, checked and drawn.

Bounded, so that a long backfill stays quick: a range of up to MAX_DAYS is read as a whole; of a longer one SAMPLE_DAYS,
half of them the last ones, the others in PIECES spread evenly over what is before them. Both limits are for all symbols
together.
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

MAX_DAYS = 92  # 132,480 raw 1m bars: three seconds
SAMPLE_DAYS = 40
PIECES = 5

PICTURES = 3
"""Symbols that are drawn."""

RECENT_DAYS = 7
"""What the button *Execute* of the checks looks at, of each symbol."""

_DAY = dt.timedelta(days=1)
Span = tuple[dt.datetime, dt.datetime]


@dataclass(frozen=True)
class Inspection:
    """How the bars of a range are. ``pictures`` are Markdown."""

    bars: Sequence[BarSummary] = ()
    days: Sequence[DayOfBars] = ()
    evaluations: Sequence[dg.AssetCheckEvaluation] = ()
    pictures: Mapping[Timeframe, str] = field(default_factory=dict)


def spans(begin: dt.datetime, end: dt.datetime, symbols: int) -> list[Span]:
    """What to read of [begin, end), which are whole days, for each of so many symbols."""
    days, sample = (end - begin) // _DAY, max(1, SAMPLE_DAYS // symbols)
    if days * symbols <= MAX_DAYS or days <= sample:
        return [(begin, end)]
    count = min(PIECES, sample // 2)
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
    import pandas as pd  # takes longer to load than Dagster's other processes should wait for

    from agg_pipeline.quality.checks import check_bars
    from agg_pipeline.reading.pages import Bars
    from agg_pipeline.reading.svg_chart import NEWEST, as_markdown, candles_svg

    chosen = _spread(symbols, SAMPLE_DAYS)
    parts = spans(begin, end, len(chosen))
    results = []
    newest: dict[Timeframe, dict[str, pd.DataFrame]] = {timeframe: {} for timeframe in timeframes}

    def keep(symbol: str, bars: Bars) -> None:
        for timeframe in newest.keys() & bars.tasks.keys():
            before, stored = newest[timeframe].get(symbol), bars.stored(timeframe)
            newest[timeframe][symbol] = (stored if before is None else pd.concat([before, stored])).tail(NEWEST)

    for symbol in chosen:
        health = gateway.health([symbol])
        for first, stop in parts:
            seen = partial(keep, symbol) if stop == end and symbol in chosen[:PICTURES] else None
            found = check_bars(
                gateway, symbol, begin=first, end=stop, timeframes=timeframes, health=health, on_page=seen
            )
            results += [one for one in found if one.check not in CURRENT_STATE_CHECKS or stop == end]
    pictures = {
        timeframe: "\n\n".join(
            as_markdown(candles_svg(bars, title=f"{symbol} {timeframe}")) for symbol, bars in drawn.items()
        )
        for timeframe, drawn in newest.items()
    }
    said = _said(symbols, chosen, begin, end, parts)
    return Inspection(
        bars=gateway.bar_summary(symbols, begin, end),
        days=gateway.bars_by_day(symbols, begin, end),
        evaluations=[
            *evaluations([one for one in results if one.check not in CURRENT_STATE_CHECKS], said),
            *evaluations(
                [one for one in results if one.check in CURRENT_STATE_CHECKS], f"the tasks of {_named(symbols, chosen)}"
            ),
        ],
        pictures=pictures,
    )


def check_recent(gateway: AggGateway, symbols: Sequence[str] | None) -> list[dg.AssetCheckEvaluation]:
    """Check the last days of symbols, all if none are named.

    Raises:
        ValueError: there are no tasks of a symbol.
        GatewayError: the bars could not be read.
    """
    from agg_pipeline.quality.checks import check_bars

    gateway.check_contract()
    tasks, results = [task for task in gateway.health(symbols) if task.timeframe in LADDER], []
    for symbol in symbols or dict.fromkeys(task.symbol for task in tasks):
        own = [task for task in tasks if task.symbol == symbol]
        end = max((task.cursor_utc or task.first_window_utc for task in own), default=dt.datetime.now(dt.UTC))
        results += check_bars(gateway, symbol, begin=end - RECENT_DAYS * _DAY, end=end, health=own)
    count = len({result.symbol for result in results})
    return list(evaluations(results, f"the last {RECENT_DAYS} days of {count} symbol{'' if count == 1 else 's'}"))


def _spread(symbols: Sequence[str], most: int) -> Sequence[str]:
    return symbols if len(symbols) <= most else [symbols[n * len(symbols) // most] for n in range(most)]


def _said(
    symbols: Sequence[str], chosen: Sequence[str], begin: dt.datetime, end: dt.datetime, parts: Sequence[Span]
) -> str:
    who = _named(symbols, chosen)
    days = f"{begin:%Y-%m-%d} to {end - _DAY:%Y-%m-%d}"
    if len(parts) == 1 and parts[0] == (begin, end):
        return f"{who}, all days from {days}"
    lengths = [(stop - first) // _DAY for first, stop in parts]
    spread = f", and {sum(lengths[:-1])} spread over the others" if lengths[:-1] else ""
    return f"{who}, a sample of the days from {days}: the last {lengths[-1]}{spread}"


def _named(symbols: Sequence[str], chosen: Sequence[str]) -> str:
    names = ", ".join(chosen[:10]) + (", ..." if len(chosen) > 10 else "")
    return names if len(chosen) == len(symbols) else f"{len(chosen)} of {len(symbols)} symbols: {names}"
