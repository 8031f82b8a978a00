"""Numbers with commas: separators of thousands, decimal commas, and those that could be either."""

from pathlib import Path

import pytest

from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline_tests.ingest.bar_files import HEADER, read, read_csv, row

COMMA = FileOptions(decimal_comma=True)


@pytest.mark.parametrize(
    ("fields", "volume", "high"),
    [
        ({"volume": '"1,234.5"'}, 1234.5, 12),
        ({"volume": '"1,234,567"'}, 1234567, 12),
        ({"volume": '"-1,234,567"', "high": '"1,000.25"'}, None, None),
        ({"volume": '"1,234"', "high": "12.25"}, 1234, 12.25),
        ({"volume": '"1,234"', "high": '"1,000.125"'}, 1234, 1000.125),
        ({"volume": '" 1,234.5 "'}, 1234.5, 12),
    ],
)
def test_quoted_thousands(tmp_path: Path, fields: dict[str, str], volume: float | None, high: float | None) -> None:
    bars, rejected = read_csv(tmp_path, row(vwap="", **fields))
    if volume is None:
        assert rejected == ["line 2: volume -1234567.0 is negative"]
    else:
        assert rejected == []
        assert [(bar["vol"], bar["high"]) for bar in bars] == [(volume, high)]


@pytest.mark.parametrize(
    "text", ["1,0921", "1,09", "1,5", "12345,678", "0,123", "1.234,5", "1,23,456", "1,234,56", ","]
)
def test_a_decimal_comma_is_refused_unless_it_is_announced(tmp_path: Path, text: str) -> None:
    [rejected] = read_csv(tmp_path, row(volume=f'"{text}"'))[1]
    assert rejected == (
        f"line 2: volume {text!r}: has a comma that does not separate thousands; if it is a decimal comma, pass "
        "--decimal-comma"
    )


def test_a_comma_that_could_be_either_is_refused(tmp_path: Path) -> None:
    """USDJPY with a decimal comma has three decimals in every price: as thousands each would be a thousandfold."""
    line = 'USDJPY,2024-03-13T00:00:00Z,"147,123","147,200","147,100","147,150",5,,'
    assert read_csv(tmp_path, line) == (
        [],
        ["line 2: open '147,123' can be 147123 or 147.123; write it without the comma, or pass --decimal-comma"],
    )
    path = tmp_path / "bars.csv"
    [bar], rejected = read(path, options=COMMA)
    assert (rejected, bar["open"], bar["close"]) == ([], 147.123, 147.15)


def test_a_point_that_could_separate_thousands_shows_nothing(tmp_path: Path) -> None:
    line = 'USDJPY,2024-03-13T00:00:00Z,"147,123","147,200","147,100","147,150",1.234,,'
    assert read_csv(tmp_path, line)[0] == []


@pytest.mark.parametrize(
    ("text", "volume"),
    [("1,5", 1.5), ("1.234,5", 1234.5), ("1.234.567", 1234567), ("1.234", 1234), ("7", 7), ("1e3", 1000), (",5", 0.5)],
)
def test_announced_decimal_commas(tmp_path: Path, text: str, volume: float) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEADER.replace(',', ';')}\nEURUSD;2024-03-13T00:00:00Z;10,25;12;9;11;{text};10,5;3\n")
    [bar], rejected = read(path, options=COMMA)
    assert (rejected, bar["open"], bar["vol"], bar["vwap"]) == ([], 10.25, volume, 10.5)


@pytest.mark.parametrize("text", ["1.5", "1.0921", "1,234,567", "1_0", "\u0661", "1.23,5", "e5", "+"])
def test_what_an_announced_decimal_comma_excludes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEADER.replace(',', ';')}\nEURUSD;2024-03-13T00:00:00Z;10;12;9;11;{text};;3\n", encoding="utf-8")
    bars, [rejected] = read(path, options=COMMA)
    assert bars == []
    assert "is not a number" in rejected
