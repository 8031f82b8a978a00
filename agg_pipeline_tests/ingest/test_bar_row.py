"""Rows of a CSV file: values that are read, and reasons for rejection."""

from pathlib import Path

import pytest

from agg_pipeline.market.names import SYMBOL_RULE
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline_tests.ingest.bar_files import AFTER, GOOD, GOOD_BAR, HEADER, read, read_csv, row


def test_a_good_row(tmp_path: Path) -> None:
    assert read_csv(tmp_path, GOOD) == ([GOOD_BAR], [])


def test_numbers_keep_the_precision_of_the_text(tmp_path: Path) -> None:
    [bar], rejected = read_csv(
        tmp_path, row(open="0.1", high="1e30", low="-37.63", close="1.23456789012345678", volume="1e-08", vwap=".3")
    )
    assert rejected == []
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (0.1, 1e30, -37.63, 1.23456789012345678)
    assert (bar["vol"], bar["vwap"]) == (1e-08, 0.3)


def test_optional_values_may_be_empty_and_optional_columns_absent(tmp_path: Path) -> None:
    unknown = GOOD_BAR | {"vol": None, "vwap": None, "trade_count": None}
    assert read_csv(tmp_path, row(volume="", vwap=" ", trade_count="")) == ([unknown], [])
    short = "EURUSD,2024-03-13T00:00:00Z,10,12,9,11,"
    assert read_csv(tmp_path, short, header="symbol,ts_utc,open,high,low,close,volume") == ([unknown], [])


@pytest.mark.parametrize("field", [{"vwap": "nan"}, {"vwap": "inf"}, {"vwap": "-inf"}])
def test_a_vwap_that_is_not_finite_is_unknown(tmp_path: Path, field: dict[str, str]) -> None:
    assert read_csv(tmp_path, row(**field)) == ([GOOD_BAR | {"vwap": None}], [])


@pytest.mark.parametrize(("text", "count"), [("-1", None), ("nan", None), ("inf", None), ("7.0", 7), ("0", 0)])
def test_trade_counts(tmp_path: Path, text: str, count: int | None) -> None:
    [bar], rejected = read_csv(tmp_path, row(trade_count=text))
    assert rejected == []
    assert bar["trade_count"] == count
    assert type(bar["trade_count"]) is type(count)


@pytest.mark.parametrize(
    "text",
    [
        "2024-03-13T00:00:00Z",
        "2024-03-13T00:00:00+00:00",
        "2024-03-13 00:00:00",
        "2024-03-13 00:00",
        "2024-03-12T20:00:00-04:00",
        "2024-03-13T05:30:00+05:30",
        "2024-03-13T00:00:00.000000000Z",
        " 2024-03-13T00:00:00Z ",
    ],
)
def test_times(tmp_path: Path, text: str) -> None:
    """A time with an offset is converted to UTC, one without is taken as UTC."""
    assert read_csv(tmp_path, row(ts_utc=text)) == ([GOOD_BAR], [])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row(symbol=""), "symbol is empty"),
        *(
            (row(symbol=name), f"symbol {name!r} begins or ends with a blank; {SYMBOL_RULE}")
            for name in ("  ", " X", "X ")
        ),
        (row(symbol="EUR\x00USD"), rf"symbol 'EUR\x00USD' has U+0000 as character 4; {SYMBOL_RULE}"),
        (row(ts_utc=""), "ts_utc is missing"),
        *(
            (row(ts_utc=text), f"ts_utc {text!r} is neither an ISO 8601 time of whole microseconds nor an epoch time")
            for text in (
                "yesterday",
                "2024-02-30T00:00:00Z",
                "2024-03-13",
                "99999999",
                "7258118400",
                "20240313000000",
                "1.710288e9",
                "1710288000.5",
                "1710288000000000001",
                "13/03/2024 00:00:00",
                "2024-03-13T00:00:00.0000001Z",
                "0001-01-01T00:00:00+01:00",
            )
        ),
        (row(ts_utc="2024-03-13T00:00:30Z"), "ts_utc 2024-03-13T00:00:30+00:00 is not the start of a 1m bar"),
        *((row(**{name: ""}), f"{name} is missing") for name in ("open", "high", "low", "close")),
        *((row(**{name: "NaN"}), f"{name} is missing") for name in ("open", "high", "low", "close")),
        (row(ts_utc="NaT"), "ts_utc is missing"),
        (row(ts_utc="1899-12-31T23:59Z"), "ts_utc 1899-12-31T23:59:00+00:00 is out of range: 1900 to 2199"),
        (row(ts_utc="2200-01-01 00:00"), "ts_utc 2200-01-01T00:00:00+00:00 is out of range: 1900 to 2199"),
        (
            row(ts_utc="202403130000"),
            "ts_utc 202403130000 can be a date and time or an epoch time; write it in ISO 8601",
        ),
        (row(high="1.1e30"), "high 1.1e+30 is out of range: at most 1e+30 in size"),
        (row(low="-1.1e30"), "low -1.1e+30 is out of range: at most 1e+30 in size"),
        (row(vwap="1e31"), "vwap 1e+31 is out of range: at most 1e+30 in size"),
        (row(volume="1.1e30"), "volume 1.1e+30 is out of range: at most 1e+30"),
        *((row(**{name: "-Infinity"}), f"{name} -inf is not finite") for name in ("open", "high", "low", "close")),
        (row(high="1e999"), "high inf is not finite"),
        *((row(open=text), f"open {text!r} is not a number") for text in ("ten", "1_0", "0x1A", "1.2.3", "\u0661")),
        (row(volume="much"), "volume 'much' is not a number"),
        (row(vwap="--"), "vwap '--' is not a number"),
        (row(high="8"), "high 8.0 is below low 9.0"),
        (row(open="12.5"), "open 12.5 is outside low 9.0 to high 12.0"),
        (row(close="8.5"), "close 8.5 is outside low 9.0 to high 12.0"),
        (row(volume="-0.5"), "volume -0.5 is negative"),
        (row(volume="inf"), "volume inf is not finite"),
        (row(trade_count="2.5"), "trade_count '2.5' is not a whole number"),
        (row(trade_count="2147483648"), "trade_count '2147483648' is out of range: at most 2147483647"),
        (row(trade_count="1e15"), "trade_count '1e15' is out of range: at most 2147483647"),
        ("EURUSD,2024-03-13T00:00:00Z,10,12,9,11,5,10.5", "has 8 fields where the header has 9"),
        (GOOD + ",", "has 10 fields where the header has 9"),
        ('"' + GOOD, "has a quote that is not closed or stands inside a field"),
        ('"EURUSD"x' + GOOD.removeprefix("EURUSD"), "has a quote that is not closed or stands inside a field"),
    ],
)
def test_a_bad_row_is_rejected_alone(tmp_path: Path, bad: str, reason: str) -> None:
    bars, rejected = read_csv(tmp_path, bad, GOOD, bad, AFTER)
    assert [bar["ts_utc"] for bar in bars] == ["2024-03-13T00:00:00Z", "2024-03-13T00:59:00Z"]
    assert rejected == [f"line 2: {reason}", f"line 4: {reason}"]


def test_a_row_that_is_not_utf_8_is_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes("\n".join([HEADER, GOOD.replace("EURUSD", "\u00e9"), AFTER]).encode("latin-1"))
    bars, rejected = read(path)
    assert len(bars) == 1
    assert rejected == ["line 2: is not UTF-8"]


@pytest.mark.parametrize(
    "word", ["", " ", "-", "nan", "NaN", "NULL", "null", "N/A", "n/a", "none", "None", "#N/A", "<NA>"]
)
def test_words_for_an_unknown_value(tmp_path: Path, word: str) -> None:
    unknown = GOOD_BAR | {"vol": None, "vwap": None, "trade_count": None}
    assert read_csv(tmp_path, row(volume=word, vwap=word, trade_count=word)) == ([unknown], [])
    assert read_csv(tmp_path, row(close=word)) == ([], ["line 2: close is missing"])
    named = read_csv(tmp_path, row(symbol=word or "x"))[0]
    assert [bar["canonical_symbol"] for bar in named] == ([word or "x"] if word.strip() or not word else [])


def test_extreme_values_keep_every_bit(tmp_path: Path) -> None:
    tiny, negative_zero, large = "5e-324", "-0.0", "1e30"
    bars, rejected = read_csv(
        tmp_path,
        row(open=negative_zero, high=tiny, low="-1e-12", close=tiny, volume="0", vwap=negative_zero),
        row(ts_utc="1900-01-01T00:00Z", open=large, high=large, low=f"-{large}", close="0", volume=large, vwap=large),
        row(ts_utc="2199-12-31T23:59Z", trade_count="2147483647", volume=negative_zero),
    )
    assert rejected == []
    assert repr([bars[0][name] for name in ("open", "high", "low", "close", "vol", "vwap")]) == (
        "[-0.0, 5e-324, -1e-12, 5e-324, 0.0, -0.0]"
    )
    assert (bars[1]["high"], bars[1]["low"], bars[1]["vol"], bars[1]["vwap"]) == (1e30, -1e30, 1e30, 1e30)
    assert (bars[2]["trade_count"], repr(bars[2]["vol"])) == (2147483647, "-0.0")


def test_a_long_value_is_cut_in_the_reason(tmp_path: Path) -> None:
    [reason] = read_csv(tmp_path, row(open="x" * 5000))[1]
    assert len(reason) < 120


def test_a_5m_file_has_a_5m_grid(tmp_path: Path) -> None:
    rows = [row(ts_utc=f"2024-03-13T00:{minute}:00Z") for minute in ("05", "07")]
    bars, rejected = read_csv(tmp_path, *rows, base=Timeframe.M5)
    assert [bar["ts_utc"] for bar in bars] == ["2024-03-13T00:05:00Z"]
    assert rejected == ["line 3: ts_utc 2024-03-13T00:07:00+00:00 is not the start of a 5m bar"]
