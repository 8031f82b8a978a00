"""Which column is which: usual names, common ones, those that the operator says; separators; the symbol of a file."""

from pathlib import Path

import pytest

from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline_tests.ingest.bar_files import GOOD, GOOD_BAR, HEADER, read

SHORT = "symbol,ts_utc,open,high,low,close,volume"
SHORT_BAR = GOOD_BAR | {"vwap": None, "trade_count": None}
SHORT_ROW = GOOD.rsplit(",", 2)[0]


def write(folder: Path, header: str, line: str = SHORT_ROW) -> Path:
    path = folder / "bars.csv"
    path.write_text(f"{header}\n{line}\n", encoding="utf-8")
    return path


def refusal(path: Path, options: FileOptions | None = None) -> str:
    with pytest.raises(BarFileError) as refused:
        BarFile(path, Timeframe.M1, options)
    return str(refused.value)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("Ticker,Date,Open,High,Low,Close,Volume", "symbol from 'Ticker', ts_utc from 'Date'"),
        ("symbol,Timestamp,Open,High,Low,Close,Vol", "ts_utc from 'Timestamp', volume from 'Vol'"),
        ("symbol,Datetime,open,high,low,close,volume", "ts_utc from 'Datetime'"),
        ("symbol,time,open,high,low,close,volume", "ts_utc from 'time'"),
        (
            "canonical_symbol,ts,open,high,low,close,vol",
            "symbol from 'canonical_symbol', ts_utc from 'ts', volume from",
        ),
    ],
)
def test_common_names_are_taken_and_said(tmp_path: Path, header: str, taken: str) -> None:
    path = write(tmp_path, header)
    [note] = BarFile(path, Timeframe.M1).notes
    assert note.startswith(f"columns with other names: {taken}")
    assert read(path) == ([SHORT_BAR], [])


def test_the_usual_name_wins_over_a_common_one(tmp_path: Path) -> None:
    path = write(tmp_path, f"{SHORT},Date,vol", f"{SHORT_ROW},13/03/2024,6")
    assert BarFile(path, Timeframe.M1).notes == ["columns that are not read: 'Date', 'vol'"]
    assert read(path) == ([SHORT_BAR], [])


@pytest.mark.parametrize("header", ["Date,Time", "timestamp,date", "Timestamp,Datetime"])
def test_nothing_is_guessed_between_two(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, f"symbol,{header},open,high,low,close,volume", f"EURUSD,2024-03-13,{SHORT_ROW[7:]}")
    first, second = header.split(",")
    assert f"has {first!r} and {second!r}, each of which can be ts_utc. Say which with --columns ts=" in refusal(path)
    assert read(path, options=FileOptions.parse(columns=[f"ts={second}"])) == ([SHORT_BAR], [])


def test_columns_that_the_operator_names(tmp_path: Path) -> None:
    path = write(tmp_path, "S,When,O,H,L,Close,V,Adj Close", f"{SHORT_ROW},1")
    options = FileOptions.parse(columns=["symbol=S,ts=When,open=O", "high=H,low=l,close=Adj Close,vol=V"])
    _, rejected = read(path, options=options)
    assert rejected == ["line 2: close 1.0 is outside low 9.0 to high 12.0"], "Adj Close is read, Close is not"
    options = FileOptions.parse(columns=["symbol=S,ts=When,open=O,high=H,low=l,vol=V"])
    assert read(path, options=options) == ([SHORT_BAR], [])
    assert BarFile(path, Timeframe.M1, options).notes[1] == "columns that are not read: 'Adj Close'"
    assert "has no column 'X' for open; it has 'S, When, O" in refusal(path, FileOptions.parse(columns=["open=X"]))
    options = FileOptions.parse(columns=["symbol=S,ts=When,open=O,high=O,low=L,vol=V"])
    assert "has one column 'O' for two things" in refusal(path, options)


def test_the_symbol_of_a_file_without_such_a_column(tmp_path: Path) -> None:
    path = write(tmp_path, SHORT.removeprefix("symbol,"), SHORT_ROW.removeprefix("EURUSD,"))
    assert read(path, options=FileOptions.parse(symbol="EURUSD")) == ([SHORT_BAR], [])
    both = write(tmp_path, SHORT.replace("symbol", "Ticker"))
    assert "has a column 'Ticker' of symbols. Leave out --symbol" in refusal(both, FileOptions.parse(symbol="EURUSD"))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_recognised(tmp_path: Path, separator: str) -> None:
    path = write(tmp_path, HEADER.replace(",", separator), GOOD.replace(",", separator))
    names = {",": [], ";": ["semicolon"], "\t": ["tab"], "|": ["pipe"]}[separator]
    assert BarFile(path, Timeframe.M1).notes == [f"fields are separated by {name}" for name in names]
    assert read(path) == ([GOOD_BAR], [])


def test_any_other_separator_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER.replace(",", "~"), GOOD.replace(",", "~"))
    assert "no comma, semicolon, tab, pipe separates it" in refusal(path)
    assert read(path, options=FileOptions.parse(separator="~")) == ([GOOD_BAR], [])
    assert "separated by tab" in refusal(path, FileOptions.parse(separator="tab"))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("separator", "x", "--separator 'x' cannot separate fields; pass one character or comma, semicolon, tab, pipe"),
        ("separator", "", "--separator '' cannot"),
        ("separator", ";;", "--separator ';;' cannot"),
        ("separator", '"', "--separator '\"' cannot"),
        ("separator", "\n", r"--separator '\\n' cannot"),
        ("timezone", "Mars/Olympus", "--timezone 'Mars/Olympus' is no time zone; pass an IANA name"),
        ("timezone", "../etc", "is no time zone"),
        ("timezone", "Europe", "is no time zone"),
        ("timezone", "", "is no time zone"),
        ("columns", ["Date"], "--columns 'Date' names no column; write it as ts=Date,open=O"),
        ("columns", ["when=Date"], "names no column"),
        ("columns", ["ts="], "names no column"),
        ("columns", ["ts=a,timestamp=b"], "--columns names ts_utc twice; keep one of 'a' and 'b'"),
        ("symbol", " ", "--symbol: symbol ' ' begins or ends with a blank"),
        ("symbol", "a\nb", "has U\\+000A as character 2"),
    ],
)
def test_options_that_cannot_be(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FileOptions.parse(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "separator"), [("tab", "\t"), (r"\t", "\t"), ("Semicolon", ";"), ("space", " ")])
def test_names_of_separators(text: str, separator: str) -> None:
    assert FileOptions.parse(separator=text).separator == separator
