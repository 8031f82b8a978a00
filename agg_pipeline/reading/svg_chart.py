"""Static chart of bars: a small SVG of candles and volume, for pages that show Markdown.

Belongs here: what is drawn and how. Does not belong here: which bars to draw, and where bars are expected (the caller).
"""

import base64
import bisect
import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from agg_pipeline.market.names import svg_text
from agg_pipeline.market.number_text import exact, tick_labels

WIDTH, HEIGHT = 760, 300
NEWEST = 60  # most bars of a chart
_LEFT, _TOP, _BOTTOM = 8, 28, 22  # margins; times below
_LEAST_RIGHT, _LABEL_GAP = 48, 6  # margin on the right, which price labels make wider; between them and the bars
_LETTER, _WIDE_LETTER = 0.7, 1.1  # most width of a small letter or digit, and of any other, in font sizes
_NARROW = frozenset("abcdefghijklnopqrstuvxyz0123456789 .,:-+/()[]")
_TEXT, _TITLE = 11, 13  # font sizes
_TICKS = 4
_VOLUME = 44  # height of the volume bars
_WIDEST_GAP = 3  # windows; longer gaps, such as a weekend, are drawn this wide
UP, DOWN, POOR, _GREY = "#26a69a", "#ef5350", "#f5a623", "#808a99"  # readable on white and on black
_STYLE = f"""
text{{font:{_TEXT}px system-ui,sans-serif;fill:{_GREY}}} .title{{font-weight:600}}
.up{{fill:{UP};stroke:{UP}}} .down{{fill:{DOWN};stroke:{DOWN}}} .poor{{fill:{POOR};stroke:{POOR}}}
.volume{{stroke:none;opacity:.5}} .gap{{fill:url(#hatch)}} .grid{{stroke:{_GREY};stroke-opacity:.25}}
"""


@dataclass(frozen=True)
class _Slot:
    """Position on the time axis. ``bar``: row of the bar, None for a gap; ``width`` in windows; ``text``: tooltip."""

    x: float
    width: int
    bar: int | None
    text: str


def candles_svg(
    bars: pd.DataFrame, *, title: str, gaps: Collection[dt.datetime] | None = None, newest: int = NEWEST
) -> str:
    """SVG of candles and volume of the newest bars. Poor bars and gaps are marked; tooltips show the figures.

    Args:
        bars: rows of one symbol and timeframe with ts_utc, open, high, low, close, vol and, if known, quality_score
            (0 or less is poor), in any order; a bar without finite prices is drawn as a gap.
        gaps: starts of windows that should have a bar and have none; other windows without a bar are left out. None:
            all windows between two bars count as gaps.
        newest: most bars to draw.
    """
    rows = bars.sort_values("ts_utc").drop_duplicates("ts_utc").tail(newest).reset_index(drop=True)
    prices = rows[["open", "high", "low", "close"]].astype("float64").replace([np.inf, -np.inf], np.nan)
    is_drawn = prices.notna().all(axis=1)
    if not is_drawn.any():
        return _svg(title, [f'<text x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">no bars</text>'])
    scores = rows["quality_score"] if "quality_score" in rows else pd.Series(2, index=rows.index)
    is_poor = scores.astype("float64") <= 0
    slots = _slots(rows, is_drawn, gaps)
    figures = prices.to_numpy()[is_drawn.to_numpy()]
    low, high = float(figures.min()), float(figures.max())
    between = [low * (1 - n / (_TICKS - 1)) + high * (n / (_TICKS - 1)) for n in range(_TICKS)]
    ticks = sorted({min(max(price, low), high) for price in between})  # between equal prices it may be off by a bit
    labels = tick_labels(ticks)
    right = WIDTH - max(_LEAST_RIGHT, _LABEL_GAP + _width(max(labels, key=len), _TEXT))
    unit = (right - _LEFT) / (slots[-1].x + slots[-1].width)
    room = (high / 2 - low / 2) * 0.08 if high > low else abs(high) * 0.01 or 1.0
    floor = HEIGHT - _BOTTOM
    bottom = floor - _VOLUME - 6  # of the price area
    volumes = rows["vol"].astype("float64").where(lambda vol: (vol > 0) & (vol < np.inf)).fillna(0)

    def y(price: float) -> float:
        # In halves, since the difference of two prices may be beyond the largest float.
        share = (price / 2 - low / 2 + room / 2) / (high / 2 - low / 2 + room)
        return bottom - share * (bottom - _TOP)

    parts = []
    for price, label in zip(ticks, labels, strict=True):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(price):.1f}H{right:.1f}"/>')
        parts.append(f'<text class="price" x="{right + _LABEL_GAP:.1f}" y="{y(price) + 4:.1f}">{label}</text>')
    labelled = -100.0
    for slot in slots:
        x, width = _LEFT + slot.x * unit, slot.width * unit
        if slot.bar is None:
            parts.append(
                f'<rect class="gap" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{floor - _TOP}">'
                f"<title>{svg_text(slot.text)}</title></rect>"
            )
            continue
        first, top, under, last = (float(price) for price in prices.to_numpy()[slot.bar])
        kind = "poor" if is_poor[slot.bar] else "up" if last >= first else "down"
        middle, body = x + width / 2, max(1.0, abs(y(first) - y(last)))
        parts.append(
            f'<g class="candle {kind}"><title>{svg_text(slot.text)}</title>'
            f'<path d="M{middle:.1f} {y(top):.1f}V{y(under):.1f}"/>'
            f'<rect x="{x + width * 0.15:.1f}" y="{min(y(first), y(last)):.1f}" width="{width * 0.7:.1f}" '
            f'height="{body:.1f}"/></g>'
        )
        if volumes[slot.bar]:
            tall = volumes[slot.bar] / volumes.max() * _VOLUME
            parts.append(
                f'<rect class="volume {kind}" x="{x + width * 0.15:.1f}" y="{floor - tall:.1f}" '
                f'width="{width * 0.7:.1f}" height="{tall:.1f}"/>'
            )
        if middle - labelled > 105 and 42 < middle < right:
            labelled = middle
            when = f"{rows['ts_utc'][slot.bar]:%m-%d %H:%M}"
            parts.append(f'<text class="time" x="{labelled:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{when}</text>')
    return _svg(title, parts)


def as_markdown(svg: str) -> str:
    """The SVG as a self-contained Markdown image, for ``dagster.MetadataValue.md``."""
    return f"![candles](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _slots(rows: pd.DataFrame, is_drawn: "pd.Series[bool]", gaps: Collection[dt.datetime] | None) -> list[_Slot]:
    """Bars and gaps in order of time."""
    times = rows["ts_utc"]
    length = times.diff().min()
    numbers = rows[["open", "high", "low", "close", "vol"]].to_numpy("float64")
    ordered = None if gaps is None else sorted(gaps)
    slots: list[_Slot] = []

    def add(width: int, bar: int | None, text: str) -> None:
        slots.append(_Slot(slots[-1].x + slots[-1].width if slots else 0, width, bar, text))

    for n, row in enumerate(rows.itertuples()):
        if n:
            missing = _missing(times[n - 1], times[n], length, ordered)
            if missing:
                windows = "1 window" if missing == 1 else f"{missing} windows"
                text = (
                    f"{windows} without a bar between {times[n - 1]:%Y-%m-%d %H:%M} and {times[n]:%Y-%m-%d %H:%M} UTC"
                )
                add(min(missing, _WIDEST_GAP), None, text)
        figures = " ".join(
            f"{letter} {exact(value)}" for letter, value in zip("OHLCV", numbers[n].tolist(), strict=True)
        )
        add(1, n if is_drawn[n] else None, f"{row.ts_utc:%Y-%m-%d %H:%M} UTC  {figures}")
    return slots


def _missing(
    before: pd.Timestamp, after: pd.Timestamp, length: pd.Timedelta, gaps: Sequence[dt.datetime] | None
) -> int:
    if gaps is None:
        return int((after - before) / length) - 1
    return bisect.bisect_left(gaps, after) - bisect.bisect_right(gaps, before)


def _width(text: str, size: float) -> float:
    """Most pixels that a text takes, whatever font a browser has."""
    wide = sum(letter not in _NARROW for letter in text)
    return size * (_WIDE_LETTER * wide + _LETTER * (len(text) - wide))


def _svg(title: str, parts: Sequence[str]) -> str:
    hatch = (
        '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" fill="{_GREY}" fill-opacity=".15"/>'
        f'<path d="M0 0V6" stroke="{_GREY}" stroke-opacity=".5" stroke-width="2"/></pattern>'
    )
    size = min(_TITLE, _TITLE * (WIDTH - 2 * _LEFT) / max(1, _width(title, _TITLE)))  # a name may have 100 letters
    head = f'<text class="title" x="{_LEFT}" y="16" style="font-size:{size:.1f}px">{svg_text(title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img"><title>{svg_text(title)}</title><style>{_STYLE}</style><defs>{hatch}</defs>'
        f"{head}{''.join(parts)}</svg>"
    )
