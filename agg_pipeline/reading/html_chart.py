"""Interactive chart of bars: candles and volume by plotly, in one self-contained HTML file.

Belongs here: what is drawn and how. Does not belong here: which bars and gaps to draw (the caller), the small chart for
pages of Dagster and documents (svg_chart).
"""

import datetime as dt
import textwrap
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from agg_pipeline.database.models.gaps import Gap
from agg_pipeline.market.names import html_text
from agg_pipeline.market.number_text import exact
from agg_pipeline.reading.svg_chart import DOWN, POOR, UP

_PRICES = ("open", "high", "low", "close")
_PLAIN = (1e-3, 1e9)  # sizes of prices and volumes that are shown without an exponent
_ONE_LINE, _LINE = 70, 50  # letters of a title in one line, and of a line of a longer one: it may be all capitals
_HEAD, _LINE_HEIGHT = 76, 24  # margin above the candles, in pixels
_GAPS = {"missing": "#ef5350", "quiet": "#808a99"}


def candles_html(bars: pd.DataFrame, gaps: Sequence[Gap], *, title: str, length: dt.timedelta) -> str:
    """HTML page with candles and volume: poor bars orange, missing bars red, quiet gaps grey, closed time cut out.

    Args:
        bars: rows of one symbol and timeframe with ts_utc, open, high, low, close, vol and, if known, quality_score.
        gaps: gaps in the source of these bars, in their range.
        length: length of a window.
    """
    import plotly.graph_objects as go  # here, since it takes half a second to load
    from plotly.subplots import make_subplots

    rows = bars.sort_values("ts_utc")
    scores = rows["quality_score"] if "quality_score" in rows else pd.Series(2, index=rows.index)
    is_poor = scores.astype("float64") <= 0
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.78, 0.22], vertical_spacing=0.02)
    for name, part, up, down in (("bars", rows[~is_poor], UP, DOWN), ("poor bars", rows[is_poor], POOR, POOR)):
        if part.empty:
            continue
        candles = {price: part[price] for price in _PRICES}
        hover = [
            f"{figures}<br>quality {score}"
            for figures, score in zip(_figures(part), scores[part.index].astype(str), strict=True)
        ]
        figure.add_trace(
            go.Candlestick(
                x=part["ts_utc"],
                **candles,
                name=name,
                increasing_line_color=up,
                decreasing_line_color=down,
                hovertext=hover,
                hoverinfo="text",
            ),
            row=1,
            col=1,
        )
    colours = [
        POOR if poor else UP if last >= first else DOWN
        for poor, first, last in zip(is_poor, rows["open"], rows["close"], strict=True)
    ]
    figure.add_trace(
        go.Bar(x=rows["ts_utc"], y=rows["vol"], marker_color=colours, name="volume", showlegend=False), row=2, col=1
    )
    half = length / 2  # plotly centres a candle on the start of its window
    for gap in gaps:
        if gap.kind in _GAPS:
            figure.add_vrect(
                x0=gap.from_utc - half, x1=gap.to_utc - half, fillcolor=_GAPS[gap.kind], opacity=0.18, line_width=0
            )
    closed = [gap for gap in gaps if gap.kind == "closed"]
    breaks = [
        {"values": [gap.from_utc - half], "dvalue": (gap.to_utc - gap.from_utc) // dt.timedelta(milliseconds=1)}
        for gap in closed
    ]
    figure.update_xaxes(rangebreaks=breaks, rangeslider_visible=False)
    for row, names in ((1, _PRICES), (2, ("vol",))):
        # By itself plotly writes 1e-12 as 1p, and cuts off what is wider than the margin.
        sizes = np.abs(rows[list(names)].to_numpy("float64"))
        size = max(sizes[np.isfinite(sizes)], default=1.0)
        form = "none" if _PLAIN[0] <= size < _PLAIN[1] else "e"
        figure.update_yaxes(exponentformat=form, separatethousands=True, automargin=True, row=row, col=1)
    lines = [title]
    if len(title) > _ONE_LINE:
        lines = textwrap.wrap(title, _LINE, replace_whitespace=False, break_on_hyphens=False)
    head = (
        "<br>".join(html_text(line) for line in lines)
        + "<br><sup>red stripes: missing bars; grey: no trades; orange: bars of poor quality</sup>"
    )
    figure.update_layout(
        title=head,
        template="plotly_white",
        height=720,
        margin_t=_HEAD + _LINE_HEIGHT * len(lines),
        hovermode="x",
        bargap=0.2,
    )
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _figures(rows: pd.DataFrame) -> Iterator[str]:
    """Prices and volume of each bar with all their digits; plotly's own text rounds them."""
    for values in zip(*(rows[name] for name in (*_PRICES, "vol")), strict=True):
        yield "<br>".join(f"{name} {exact(value)}" for name, value in zip((*_PRICES, "volume"), values, strict=True))
