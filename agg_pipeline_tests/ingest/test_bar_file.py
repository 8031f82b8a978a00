"""Bar files: dialects, duplicates, progress, and files that are refused."""

import datetime as dt
import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.ingest.rejects import Reject
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline_tests.ingest.bar_files import (
    AFTER,
    GOOD,
    GOOD_BAR,
    HEADER,
    columns,
    parquet_bytes,
    read,
    read_csv,
    row,
)
from agg_pipeline_tests.sampling import sampled


def minutes(count: int, start: dt.datetime = dt.datetime(2024, 3, 13)) -> list[str]:
    """Lines of valid bars, one a minute, with digits that gzip cannot compress well."""
    return [
        row(ts_utc=(start + dt.timedelta(minutes=n)).isoformat(), open=f"{9 + n % 7919 / 7919}") for n in range(count)
    ]


def test_of_duplicates_the_first_valid_row_is_used(tmp_path: Path) -> None:
    same_time = row(ts_utc="2024-03-12T20:00:00-04:00", close="10")
    bars, rejected = read_csv(tmp_path, row(high="1"), GOOD, same_time, AFTER, GOOD, row(symbol="USDJPY"))
    assert [(bar["canonical_symbol"], bar["close"]) for bar in bars] == [("EURUSD", 11), ("EURUSD", 11), ("USDJPY", 11)]
    assert rejected == ["line 2: high 1.0 is below low 9.0", "line 4: repeats line 3", "line 6: repeats line 3"]


def test_duplicates_are_found_across_batches_and_before_the_year_2001(tmp_path: Path) -> None:
    lines = minutes(300, start=dt.datetime(2000, 12, 31, 22))
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEADER, *lines, *lines]))
    bars, rejected = read(path, rows=7)
    assert len(bars) == 300
    assert rejected == [f"line {302 + n}: repeats line {2 + n}" for n in range(300)]


def test_batches_are_full_but_for_the_last(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEADER, *minutes(10)]))
    assert [len(batch) for batch in BarFile(path, Timeframe.M1).batches(print, rows=4)] == [4, 4, 2]


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    bars, rejected = read_csv(tmp_path, "", GOOD, "   ", row(high="1"), "")
    assert len(bars) == 1
    assert rejected == ["line 5: high 1.0 is below low 9.0"]


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n" + text,
        lambda text: text.replace("symbol", "Symbol ").replace("ts_utc", " TS_UTC"),
        lambda text: "\n".join(",".join(f'"{field}"' for field in line.split(",")) for line in text.splitlines()),
        lambda text: "\n".join(",".join(reversed(line.split(","))) for line in text.splitlines()),
    ],
    ids=["CRLF", "BOM", "BOM and CRLF", "no last line end", "blank lines first", "header case", "quoted", "reversed"],
)
@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz", "zipped.csv", "bars"])
def test_dialects(tmp_path: Path, rewrite: Callable[[str], str], name: str) -> None:
    content = rewrite(f"{HEADER}\n{GOOD}\n").encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, mtime=0) if "z" in name else content)
    assert read(path) == ([GOOD_BAR], [])


def test_columns_that_are_not_read_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"id,{HEADER},Provider\n7,{GOOD},x\n")
    file = BarFile(path, Timeframe.M1)
    assert file.columns.ignored == ["id", "Provider"]
    assert file.notes == ["columns that are not read: 'id', 'Provider'"]
    assert read(path) == ([GOOD_BAR], [])


@pytest.mark.parametrize("name", sampled(["bars.csv", "bars.csv.gz", "bars.parquet"], ["bars.csv.gz"]))
def test_progress(tmp_path: Path, name: str) -> None:
    content = "\n".join([HEADER, *minutes(25_000)]).encode()
    by_suffix = {".csv": content, ".gz": gzip.compress(content, mtime=0), ".parquet": parquet_bytes(columns(25_000))}
    path = tmp_path / name
    path.write_bytes(by_suffix[path.suffix])
    file = BarFile(path, Timeframe.M1)
    seen = [file.position_bytes for _ in file.batches(print, rows=5_000)]
    assert file.size_bytes == path.stat().st_size
    assert 0 < seen[0] < seen[2] < seen[4] <= file.position_bytes == file.size_bytes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty. Export it again"),
        ("a.parquet", b"", "is empty. Export it again"),
        ("a.csv.gz", b"", "is empty. Export it again"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "holds only blank lines. Export it again"),
        ("a.csv", b"\n \n", "holds only blank lines. Export it again"),
        ("a.csv.gz", HEADER.encode(), "is named .gz but is not gzip. Compress it"),
        ("a.csv.gz", gzip.compress(HEADER.encode(), mtime=0)[:15], "is damaged or cut off"),
        ("a.parquet", HEADER.encode(), "is named .parquet but is not Parquet"),
        ("a.parquet", b"PAR1 and then nothing of the kind", "is not readable as Parquet"),
        ("a.parquet", parquet_bytes(columns())[:-9], "is not readable as Parquet"),
        ("a.csv", b"s\xffmbol", "has no readable header: line 1 is not UTF-8. Save it as CSV in UTF-8"),
        ("a.csv", HEADER.encode("utf-16-le"), "holds NUL bytes: it is not text. Save it as CSV in UTF-8 or as Parquet"),
        ("a.csv", f"{HEADER}\r{GOOD}".encode(), "ends its lines with CR alone. Save it with LF or CRLF line ends"),
        ("a.csv", b'"symbol', "has no readable header: line 1 has a quote that is not closed"),
        ("a.csv", b"x" * 70_000, "has a line 1 of over 65536 bytes"),
        ("a.csv", b"symbol,ts_utc,open,high", "has no column low, close, volume; it has 'symbol, ts_utc, open, high'"),
        (
            "a.csv",
            b"symbol;ts_utc;open;high",
            "has no column low, close, volume; it has 'symbol, ts_utc, open, high', "
            "separated by semicolon. Name what is there with --columns low=NAME,close=NAME,volume=NAME",
        ),
        (
            "a.csv",
            HEADER.replace(",", "~").encode(),
            "no comma, semicolon, tab, pipe separates it. The first line must "
            "name the columns: symbol,ts_utc,open,high,low,close,volume[,vwap,trade_count], or pass --separator",
        ),
        (
            "a.csv",
            GOOD.encode(),
            "has no column symbol, ts_utc, open, high, low, close, volume; it has 'EURUSD, 2024-03",
        ),
        ("a.csv", b"ts_utc,open,high,low,close,volume", "has no column symbol; it has"),
        (
            "a.csv",
            b"ts_utc,open,high,low,close,volume",
            "Pass --symbol NAME, or name the column with --columns symbol=",
        ),
        (
            "a.csv",
            b"symbol,Date,Time,open,high,low,close,volume",
            "has 'Date' and 'Time', each of which can be ts_utc. "
            "Say which with --columns ts=NAME, or write date and time into one column",
        ),
        ("a.csv", b"PK\x03\x04 and so on", "is a zip archive or an Excel workbook. Unpack it, or export it as CSV"),
        ("a.csv.gz", gzip.compress(gzip.compress(b"", mtime=0), mtime=0), "is gzipped twice. Unpack it"),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd and so on", "is compressed with zstd. Unpack it"),
        ("a.csv", f"{HEADER},Open".encode(), "has column open twice. Keep one of each"),
        ("a.parquet", parquet_bytes({"symbol": ["EURUSD"]}), "has no column ts_utc, open, high, low, close, volume"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_before_any_row(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BarFileError) as refused:
        BarFile(path, Timeframe.M1)
    assert str(refused.value).startswith(f"{path} ")
    assert message in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BarFileError, match=r"bars.csv cannot be read \(No such file or directory\). Check the path"):
        BarFile(tmp_path / "bars.csv", Timeframe.M1)
    with pytest.raises(BarFileError, match=r"cannot be read \(Is a directory\)"):
        BarFile(tmp_path, Timeframe.M1)


def test_a_header_without_rows_has_no_bars(tmp_path: Path) -> None:
    assert read_csv(tmp_path) == ([], [])
    path = tmp_path / "bars.parquet"
    path.write_bytes(parquet_bytes({name: pa.array([], pa.float64()) for name in columns()}))
    file = BarFile(path, Timeframe.M1)
    assert list(file.batches(print)) == []
    assert file.position_bytes == file.size_bytes


def test_a_truncated_file_yields_the_batches_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv.gz"
    whole = gzip.compress("\n".join([HEADER, *minutes(15_000)]).encode(), mtime=0)
    path.write_bytes(whole[: len(whole) // 2])
    batches = BarFile(path, Timeframe.M1).batches(print, rows=1000)
    assert len(next(batches)) == 1000
    with pytest.raises(BarFileError, match=r"bars.csv.gz is damaged or cut off .*Fetch it again"):
        list(batches)


def test_an_error_of_the_caller_is_passed_on_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEADER}\n{row(high='1')}\n")

    def disk_full(reject: Reject) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match=r"^no space left$"):
        list(BarFile(path, Timeframe.M1).batches(disk_full))
