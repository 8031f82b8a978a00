"""However a table is written, it reads back bit for bit; whatever bytes are read, rows or a BarFileError come out."""

import csv
import datetime as dt
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from agg_pipeline.ingest.bar_row import BarRow
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.ingest.file_options import FileOptions
from agg_pipeline_tests.ingest.bar_files import GOOD, HEADER, columns, parquet_bytes, read

NAMES = ("symbol", "ts_utc", "open", "high", "low", "close", "volume", "vwap", "trade_count")
OTHER_NAMES = {"symbol": ["Ticker"], "ts_utc": ["Date", "TIME", "Timestamp", "datetime", "ts"], "volume": ["Vol"]}
ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca"]
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
WORDS = ["", "nan", "NaN", "NULL", "null", "N/A", "none", "-"]
MINUTE = dt.timedelta(minutes=1)
# UTC hours at which clocks of ZONES are set back, and two around them: random times hardly ever meet one.
SET_BACK = [
    dt.datetime(2024, *at)
    for at in ((11, 3, 4), (10, 27, 0), (4, 6, 13), (3, 10, 1))  # New York, Berlin, Lord Howe, Casablanca
]

symbols = st.sampled_from(
    ["EURUSD", "BTC/USD", "a|b", 'say "hi"', "a;b,c", "Ünï-株", "🙂", "null", "-x", "=1+1"]
) | st.text(min_size=1, max_size=9).filter(lambda text: text.isprintable() and text.strip() == text)
prices = st.floats(-1e30, 1e30) | st.sampled_from([0.0, -0.0, 5e-324, 1e-12, -37.63, 1e30, 0.1])


@st.composite
def tables(draw: st.DrawFn, first_year: int = 1900) -> list[BarRow]:
    first = dt.datetime(first_year, 1, 1)
    anywhere = st.integers(0, (dt.datetime(2200, 1, 1) - first) // MINUTE - 1)
    set_back = st.builds(
        lambda at, after: (at - first) // MINUTE + after, st.sampled_from(SET_BACK), st.integers(0, 240)
    )
    minutes = anywhere | set_back
    bars: list[BarRow] = []
    for symbol, minute in draw(st.lists(st.tuples(symbols, minutes), max_size=6, unique=True)):
        open_, close, *others = draw(st.lists(prices, min_size=4, max_size=4))
        bars.append(
            {
                "canonical_symbol": symbol,
                "ts_utc": (first + minute * MINUTE).isoformat() + "Z",
                "open": open_,
                "high": max(open_, close, *others),
                "low": min(open_, close, *others),
                "close": close,
                "vol": draw(st.none() | st.floats(0, 1e30)),
                "vwap": draw(st.none() | prices),
                "trade_count": draw(st.none() | st.integers(0, 2**31 - 1)),
            }
        )
    return bars


def time_of(bar: BarRow) -> dt.datetime:
    return dt.datetime.fromisoformat(bar["ts_utc"])


def is_plain(time: dt.datetime, zone: ZoneInfo) -> bool:
    """Whether the local time of the zone says which time it is."""
    local = time.astimezone(zone)
    return local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset()


def local_time(time: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    return time.astimezone(zone).replace(tzinfo=None)


def names_of(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Names in the file, by the order of NAMES, and what --columns says of them."""
    if draw(st.booleans()):
        said = [f"column {n}" for n in range(len(NAMES))]
        return said, [f"{known}={name}" for known, name in zip(NAMES, said, strict=True)]
    names = [draw(st.sampled_from([name, name.upper(), f" {name} ", *OTHER_NAMES.get(name, [])])) for name in NAMES]
    return names, []


Written = tuple[bytes, FileOptions, list[BarRow]]  # a file, the options that it needs, the bars that must come out


@st.composite
def csv_files(draw: st.DrawFn) -> Written:
    style = draw(st.sampled_from(["z", "offset", "naive", "zone", *UNITS]))
    bars = draw(tables(first_year=1977 if style in UNITS else 1900))
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    write_time: Callable[[dt.datetime], str]
    if style == "offset":
        offset = dt.timezone(draw(st.integers(-14 * 60, 14 * 60)) * MINUTE)
        write_time = lambda time: time.astimezone(offset).isoformat()  # noqa: E731
    elif style in UNITS:
        write_time = lambda time: str(int(time.timestamp()) * UNITS[style])  # noqa: E731
    elif style == "zone":
        write_time = lambda time: local_time(time, zone).isoformat(" ")  # noqa: E731
    else:
        write_time = lambda time: time.replace(tzinfo=None).isoformat() + ("Z" if style == "z" else "")  # noqa: E731
    decimals = draw(st.sampled_from(["point", "comma", "thousands"]))

    def write_number(value: float | None) -> str:
        if value is None:
            return draw(st.sampled_from(WORDS))
        text = f"{value:,}" if decimals == "thousands" and isinstance(value, float) else repr(value)
        return text.replace(".", ",") if decimals == "comma" else text

    names, said = names_of(draw)
    separator = draw(st.sampled_from([",", ";", "\t", "|", "~", " "]))
    order = draw(st.permutations(range(len(NAMES) + 1)))  # the last one is of a column that is not read
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=separator,
        lineterminator=newline,
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    rows = [[*names, "Provider"]]
    for bar in bars:
        numbers = [bar["open"], bar["high"], bar["low"], bar["close"], bar["vol"], bar["vwap"], bar["trade_count"]]
        rows.append([bar["canonical_symbol"], write_time(time_of(bar)), *map(write_number, numbers), "x"])
    writer.writerows([row[n] for n in order] for row in rows)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]))
    content = (("\ufeff" if encoding == "utf-16-be" else "") + text.getvalue()).encode(encoding)
    options = FileOptions.parse(
        separator=separator if separator in "~ " or draw(st.booleans()) else None,
        timezone=zone.key if style == "zone" or (style != "naive" and draw(st.booleans())) else None,
        columns=said,
        decimal_comma=decimals == "comma",
    )
    kept = bars if style != "zone" else [bar for bar in bars if is_plain(time_of(bar), zone)]
    return (gzip.compress(content, mtime=0) if draw(st.booleans()) else content), options, kept


@st.composite
def parquet_files(draw: st.DrawFn) -> Written:
    style = draw(st.sampled_from(["aware", "naive", "number", "text"]))
    bars = draw(tables(first_year=1977 if style == "number" else 1900))
    unit = draw(st.sampled_from(list(UNITS)))
    zone = ZoneInfo(draw(st.sampled_from(ZONES)))
    times: Any = [time_of(bar) for bar in bars]
    if style == "naive":
        seconds = [(local_time(time, zone) - dt.datetime(1970, 1, 1)) // dt.timedelta(seconds=1) for time in times]
        times = pa.array([second * UNITS[unit] for second in seconds], pa.int64()).cast(pa.timestamp(unit))
    elif style == "text":
        times = pa.array([bar["ts_utc"] for bar in bars], pa.string())
    else:
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        numbers = pa.array([(time - epoch) // MINUTE * 60 * UNITS[unit] for time in times], pa.int64())
        times = numbers if style == "number" else numbers.cast(pa.timestamp(unit, zone.key))
    names, said = names_of(draw)
    doubles = pa.float64()
    arrays = [
        pa.array([bar["canonical_symbol"] for bar in bars], pa.string()),
        times,
        *(pa.array([bar[name] for bar in bars], doubles) for name in ("open", "high", "low", "close", "vol", "vwap")),  # type: ignore[literal-required]
        pa.array([bar["trade_count"] for bar in bars], draw(st.sampled_from([pa.int32(), pa.int64(), doubles]))),
    ]
    if draw(st.booleans()):
        arrays[0] = arrays[0].dictionary_encode()
    order = draw(st.permutations(range(len(NAMES))))
    buffer = io.BytesIO()
    table = pa.table([arrays[n] for n in order], names=[names[n] for n in order])
    pq.write_table(
        table, buffer, row_group_size=draw(st.integers(1, 9)), compression=draw(st.sampled_from(["none", "gzip"]))
    )
    is_told = style == "naive" or draw(st.booleans())
    options = FileOptions.parse(timezone=zone.key if is_told else None, columns=said)
    kept = bars if style != "naive" else [bar for bar in bars if is_plain(time_of(bar), zone)]
    content = buffer.getvalue()
    return (gzip.compress(content, mtime=0) if draw(st.booleans()) else content), options, kept


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "bars"


@given(csv_files())
@settings(max_examples=settings.default.max_examples // 3)
def test_any_csv_reads_back_bit_for_bit(path: Path, written: Written) -> None:
    reads_back(path, *written)


@given(parquet_files())
@settings(max_examples=settings.default.max_examples // 3)
def test_any_parquet_reads_back_bit_for_bit(path: Path, written: Written) -> None:
    reads_back(path, *written)


def reads_back(path: Path, content: bytes, options: FileOptions, bars: list[BarRow]) -> None:
    """Local times that a zone has twice are rejected; all else comes out, in its order."""
    path.write_bytes(content)
    found, rejected = read(path, rows=3, options=options)
    assert repr(found) == repr(bars)  # repr: -0.0 equals 0.0
    assert all("is there twice" in reason for reason in rejected)


WHOLE = f"{HEADER}\n{GOOD}\n".encode()
FILES = [
    WHOLE,
    WHOLE.replace(b",", b";"),
    WHOLE.decode().encode("utf-16"),
    gzip.compress(WHOLE, mtime=0),
    parquet_bytes(columns(5, vwap=[10.5] * 5)),
    gzip.compress(parquet_bytes(columns()), mtime=0),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of bars with some bytes replaced, put in or taken out."""
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 9))] = draw(st.binary(max_size=9))
    return bytes(content)


def texts() -> st.SearchStrategy[bytes]:
    """A header, then rows made of what rows are made of."""
    times = ["2024-03-13T00:00Z", "1710288000", "0001-01-01T00:00"]
    signs = ['"', ",", ";", "\t", "\n", "\r", "\x00", "\ud7ff", "٣"]
    piece = st.sampled_from([*times, *signs, "EURUSD", "10", "1,5", "1e999", "-", "nan", "9" * 5000])
    return st.lists(piece | st.text(max_size=3), max_size=40).map(
        lambda pieces: f"{HEADER}\n{''.join(pieces)}".encode("utf-8", "replace")
    )


OPTIONS = [FileOptions(), FileOptions.parse(timezone="Europe/Berlin", decimal_comma=True, separator=";")]


@given(damaged() | texts() | st.binary(max_size=200), st.sampled_from(OPTIONS))
def test_any_bytes_give_rows_or_a_message_of_one_line(path: Path, content: bytes, options: FileOptions) -> None:
    path.write_bytes(content)
    try:
        found, rejected = read(path, options=options)
    except BarFileError as exc:
        message = str(exc)
    else:
        assert all(reason.isprintable() for reason in rejected)
        event("rows" if found else "no rows")
        return
    event("refused")
    assert message.startswith(f"{path} ")
    assert message.isprintable()
