"""SVG chart: valid XML, one candle per bar, gaps and poor bars marked."""

import base64
import datetime as dt
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agg_pipeline.market.number_text import exact
from agg_pipeline.reading.html_chart import candles_html
from agg_pipeline.reading.svg_chart import HEIGHT, WIDTH, as_markdown, candles_svg

MONDAY = pd.Timestamp("2026-01-05T00:00Z")
SVG = "{http://www.w3.org/2000/svg}"


def bars(*minutes: int, **columns: object) -> pd.DataFrame:
    rows = [
        {
            "ts_utc": MONDAY + pd.Timedelta(minutes=m),
            "open": 10 + n % 3,
            "high": 14,
            "low": 8,
            "close": 11,
            "vol": n + 1,
        }
        for n, m in enumerate(minutes)
    ]
    frame = pd.DataFrame(rows, columns=["ts_utc", "open", "high", "low", "close", "vol"])
    return frame.assign(quality_score=2, **columns)


def drawn(svg: str) -> dict[str, list[ET.Element]]:
    """Elements by their first class."""
    found: dict[str, list[ET.Element]] = {}
    for element in ET.fromstring(svg).iter():
        for name in element.get("class", "").split():
            found.setdefault(name, []).append(element)
    return found


def tooltip(element: ET.Element) -> str:
    return element.findtext(f"{SVG}title") or ""


def test_one_candle_and_one_volume_a_bar() -> None:
    parts = drawn(candles_svg(bars(*range(0, 100, 5)), title="BTCUSD 5m"))
    assert len(parts["candle"]) == len(parts["volume"]) == 20
    assert "gap" not in parts
    assert "poor" not in parts
    assert len(parts["price"]) == 4
    assert parts["time"][0].text == "01-05 00:05", "the first one that has room"
    assert tooltip(parts["candle"][1]) == "2026-01-05 00:05 UTC  O 11 H 14 L 8 C 11 V 2"


def test_all_candles_are_in_order_and_within_the_chart() -> None:
    parts = drawn(candles_svg(bars(*range(0, 500, 5)).sample(frac=1, random_state=1), title="x", newest=40))
    assert len(parts["candle"]) == 40
    bodies = [[float(body.get(name, "")) for name in ("x", "y", "width", "height")]
              for candle in parts["candle"] for body in candle.iter(f"{SVG}rect")]  # fmt: skip
    assert bodies == sorted(bodies, key=lambda body: body[0])
    assert all(min(x, y) >= 0 and x + width <= WIDTH and y + height <= HEIGHT for x, y, width, height in bodies)
    assert tooltip(parts["candle"][-1]).startswith("2026-01-05 08:15")


def test_missing_windows_are_gaps_however_long() -> None:
    parts = drawn(candles_svg(bars(0, 5, 15, 20, 2900, 2905), title="x"))
    assert [tooltip(gap) for gap in parts["gap"]] == [
        "1 window without a bar between 2026-01-05 00:05 and 2026-01-05 00:15 UTC",
        "575 windows without a bar between 2026-01-05 00:20 and 2026-01-07 00:20 UTC",
    ]
    one, many = (float(gap.get("width", "")) for gap in parts["gap"])
    assert many == pytest.approx(3 * one, abs=0.1)


def test_only_given_gaps_are_drawn() -> None:
    gap = MONDAY.to_pydatetime() + dt.timedelta(minutes=10)
    parts = drawn(candles_svg(bars(0, 5, 15, 20, 2900, 2905), title="x", gaps=[gap]))
    assert [tooltip(found) for found in parts["gap"]] == [
        "1 window without a bar between 2026-01-05 00:05 and 2026-01-05 00:15 UTC"
    ]
    assert "gap" not in drawn(candles_svg(bars(0, 5, 15), title="x", gaps=[]))


def test_poor_bars_are_marked() -> None:
    scored = bars(0, 5, 10, 15, 20).assign(quality_score=pd.array([2, 0, -1, None, 1], dtype="Int64"))
    parts = drawn(candles_svg(scored, title="x"))
    assert [tooltip(candle)[11:16] for candle in parts["candle"] if "poor" in candle.get("class", "")] == [
        "00:05",
        "00:10",
    ]
    assert "poor" not in drawn(candles_svg(scored.drop(columns="quality_score"), title="x"))


@pytest.mark.parametrize("vol", [None, 0, float("nan"), float("inf"), -1])
def test_without_a_volume_there_are_candles_only(vol: float | None) -> None:
    parts = drawn(candles_svg(bars(0, 5, 10, vol=vol), title="x"))
    assert len(parts["candle"]) == 3
    assert "volume" not in parts


def test_a_bar_without_prices_is_a_gap() -> None:
    parts = drawn(candles_svg(bars(0, 5, 10).assign(close=[11, float("nan"), 11]), title="x"))
    assert (len(parts["candle"]), len(parts["gap"])) == (2, 1)


@pytest.mark.parametrize("price", [5, 0, -3, 1e-8, 1e12])
def test_constant_prices_can_be_drawn(price: float) -> None:
    flat = bars(0, 5).assign(open=price, high=price, low=price, close=price)
    svg = candles_svg(flat, title="x")
    assert len(drawn(svg)["candle"]) == 2
    assert "nan" not in svg
    assert len(drawn(candles_svg(flat.head(1), title="x"))["candle"]) == 1


@given(
    st.floats(allow_nan=False, allow_infinity=False) | st.floats(1e-13, 1e-4) | st.sampled_from([1e30, -37.63, 1e5]),
    st.sampled_from([0, 1e-16, 1e-9, 1e-3, 1.0]),
    st.floats(0, allow_infinity=False),
)
def test_labels_of_any_prices_differ_and_fit_in_the_margin(price: float, spread: float, vol: float) -> None:
    end = price * (1 - spread)
    rows = bars(0, 5).assign(open=price, close=end, high=max(price, end), low=min(price, end), vol=[vol, 1.0])
    svg = candles_svg(rows, title="W" * 100 + " 5m, bars of 2026-01-05 00:00 to 2026-01-05 00:05 UTC")
    assert "nan" not in svg
    assert "inf" not in svg
    labels = drawn(svg)["price"]
    texts = [label.text or "" for label in labels]
    assert len({float(text) for text in texts}) == len(texts)
    digit = 11 * 0.64  # the widest of the usual fonts, DejaVu Sans
    assert all(
        float(label.get("x", "")) + len(text) * digit <= WIDTH for label, text in zip(labels, texts, strict=True)
    )
    heights = [float(label.get("y", "")) for label in labels]
    assert all(0 < height < HEIGHT for height in heights)
    assert heights == sorted(heights, reverse=True)


def test_the_figures_of_tiny_prices_are_whole() -> None:
    tiny = bars(0, 5).assign(open=1e-12, high=1.5e-12, low=1e-12, close=[1.25e-12, 1.2500000000000001e-12])
    parts = drawn(candles_svg(tiny, title="SHIB"))
    assert [label.text for label in parts["price"]] == ["1.00e-12", "1.17e-12", "1.33e-12", "1.50e-12"]
    assert tooltip(parts["candle"][1]).endswith("O 1e-12 H 1.5e-12 L 1e-12 C 1.2500000000000001e-12 V 2")


@pytest.mark.parametrize(("price", "form"), [(1e-12, "e"), (-37.63, "none")])
def test_the_axis_and_the_tooltips_of_the_page_are_whole(price: float, form: str) -> None:
    flat = bars(0, 5).assign(open=price, high=price, low=price, close=price, vol=1e12)
    page = candles_html(flat, [], title="W" * 100, length=dt.timedelta(minutes=5))
    assert f'"exponentformat":"{form}"' in page
    assert f"open {exact(price)}" in page
    assert "W" * 51 not in page, "a long title is broken into lines"


def test_a_chart_without_bars_says_no_bars() -> None:
    for nothing in (bars(), bars(0, close=None)):
        svg = candles_svg(nothing, title="EURUSD 1h")
        assert "candle" not in drawn(svg)
        assert [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")] == ["EURUSD 1h", "no bars"]


def test_a_title_is_escaped() -> None:
    svg = candles_svg(bars(0), title="<script>BTC&USD</script>")
    assert "<script>" not in svg
    assert ET.fromstring(svg).findtext(f"{SVG}title") == "<script>BTC&USD</script>"


def test_markdown_contains_the_svg() -> None:
    svg = candles_svg(bars(0, 5), title="é")
    head, _, data = as_markdown(svg).partition("base64,")
    assert head == "![candles](data:image/svg+xml;"
    assert base64.b64decode(data.removesuffix(")")).decode() == svg
