"""Files that cannot be read twice, encodings of text, damage, and rows that are rejected together."""

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.ingest.rejects import Reject, RejectGroups
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline_tests.ingest.bar_files import AFTER, GOOD, GOOD_BAR, HEADER, columns, parquet_bytes, read, row

TEXT = f"{HEADER}\n{GOOD}\n"


@contextmanager
def pipe(content: bytes, at_a_time: int) -> Iterator[Path]:
    """A pipe that gives its content in small parts, as a file that `load <(command)` gets."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as file:
            for at in range(0, len(content), at_a_time):
                file.write(content[at : at + at_a_time])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield Path(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        writer.join()


@pytest.mark.parametrize("at_a_time", [1, 100_000])
@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        gzip.compress(TEXT.encode(), mtime=0),
        TEXT.encode("utf-16"),
        parquet_bytes(columns(vwap=[10.5], trade_count=[3])),
    ],
    ids=["CSV", "gzip", "UTF-16", "Parquet"],
)
def test_a_pipe_is_read(content: bytes, at_a_time: int) -> None:
    with pipe(content, at_a_time) as path:
        assert read(path) == ([GOOD_BAR], [])
    with pipe(content, at_a_time) as path:
        file = BarFile(path, Timeframe.M1)
        assert file.size_bytes == 0
        list(file.batches(print))
        assert file.position_bytes > 0


def test_a_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(TEXT)
    file = BarFile(path, Timeframe.M1)
    assert len(list(file.batches(print))) == 1
    with pytest.raises(RuntimeError, match="was read already"):
        list(file.batches(print))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-be"])
@pytest.mark.parametrize("is_gzip", [False, True])
def test_byte_order_marks(tmp_path: Path, encoding: str, is_gzip: bool) -> None:
    mark = "" if encoding in ("utf-8-sig", "utf-16", "utf-32") else "\ufeff"
    content = (mark + TEXT.replace("EURUSD", "Ünï-株🙂")).encode(encoding)
    path = tmp_path / "bars.csv"
    path.write_bytes(gzip.compress(content, mtime=0) if is_gzip else content)
    assert read(path) == ([GOOD_BAR | {"canonical_symbol": "Ünï-株🙂"}], [])


def test_a_row_of_utf_16_that_is_not_text_is_rejected_alone(tmp_path: Path) -> None:
    bad = row(symbol="A\ud800B")
    path = tmp_path / "bars.csv"
    path.write_bytes(f"\ufeff{HEADER}\n{bad}\n{AFTER}\n".encode("utf-16-le", "surrogatepass"))
    bars, rejected = read(path)
    assert [bar["ts_utc"] for bar in bars] == ["2024-03-13T00:59:00Z"]
    assert rejected == ["line 2: is not UTF-16-LE"]


def test_half_a_character_at_the_end_of_utf_16_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(TEXT.encode("utf-16")[:-1])
    with pytest.raises(BarFileError, match=r"bars.csv is damaged or cut off \(truncated data\). Fetch it again"):
        read(path)


def test_a_line_that_is_too_long_is_rejected_alone(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEADER, GOOD, "x" * 200_000, AFTER, "y" * 70_000]))
    bars, rejected = read(path)
    assert len(bars) == 2
    assert rejected == ["line 3: is over 65536 bytes long", "line 5: is over 65536 bytes long"]


@pytest.mark.parametrize("cut", [1, 5, 9])
def test_every_cut_of_a_gzip_file_is_damage(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "bars.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode(), mtime=0)[:-cut])
    with pytest.raises(BarFileError, match=r"is damaged or cut off"):
        read(path)


def test_rejected_rows_are_grouped_by_cause(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    off_grid = [row(ts_utc=f"2024-03-13T{n // 60:02}:{n % 60:02}:30Z") for n in range(480)]
    path.write_text("\n".join([HEADER, *off_grid, row(high="1"), "x", "y,z", "\u00e9,\x00", GOOD, GOOD, GOOD]))
    groups = RejectGroups()
    list(BarFile(path, Timeframe.M1).batches(groups.add))
    assert groups.lines() == [
        "480 lines: ts_utc is not the start of a 1m bar (lines 2, 3, 4, 5, 6 and 475 more; line 2: ts_utc "
        "2024-03-13T00:00:30+00:00 is not the start of a 1m bar)",
        "line 482: high 1.0 is below low 9.0",
        "3 lines: has another number of fields than the header (lines 483, 484, 485; line 483: has 1 fields where the "
        "header has 9)",
        "2 lines: repeats an earlier line (lines 487, 488; line 487: repeats line 486)",
    ]


def test_groups_do_not_grow_with_the_rows() -> None:
    groups = RejectGroups()
    for n in range(1, 100_001):
        groups.add(Reject("row", n, "open is missing", "open is missing"))
    assert groups.lines() == ["100,000 rows: open is missing (rows 1, 2, 3, 4, 5 and 99,995 more)"]
    [group] = groups._groups.values()
    assert len(group.numbers) == 5


def test_negative_prices_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEADER, row(low="-1"), AFTER, row(low="-2", high="-3"), row(low="-2")]))
    file = BarFile(path, Timeframe.M1)
    list(file.batches(lambda reject: None))
    assert file.negative_prices == 1, "one is rejected, one repeats the first"
