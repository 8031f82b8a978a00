"""Opening of a bar file: regular or a pipe, gzipped or not, and what it holds by its first bytes.

A file is opened once and read from front to back, so that what cannot be read twice (/dev/stdin, a pipe) works too.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agg_pipeline.ingest.errors import UnreadableError

_BUFFER = 65_536
_MAGIC = 8
_GZIP = b"\x1f\x8b"
_PARQUET = (b"PAR1", b"PARE")  # the second: encrypted, which the reader reports
_OTHER_FORMATS = {
    _GZIP: "is gzipped twice",
    b"PK\x03\x04": "is a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook",
    b"BZh": "is compressed with bzip2",
    b"\xfd7zXZ": "is compressed with xz",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd",
    b"ARROW1": "is an Arrow file",
}
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "UTF-8",
    codecs.BOM_UTF32_LE: "UTF-32-LE",
    codecs.BOM_UTF32_BE: "UTF-32-BE",
    codecs.BOM_UTF16_LE: "UTF-16-LE",
    codecs.BOM_UTF16_BE: "UTF-16-BE",
}


@dataclass
class Progress:
    """How far a file is read. ``size_bytes`` is 0 if nobody knows, as with a pipe."""

    size_bytes: int = 0
    position_bytes: int = 0


@dataclass(frozen=True)
class Opened:
    """Decompressed bytes of a file, from the first one on."""

    stream: io.BufferedReader
    is_parquet: bool


@contextlib.contextmanager
def open_bars(path: Path, progress: Progress) -> Iterator[Opened]:
    """Open a file. ``progress`` grows while it is read, but for Parquet, whose reader jumps.

    Raises:
        UnreadableError: it is empty, or another format than its name says or than can be read.
        OSError: it cannot be opened or is damaged.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    with contextlib.ExitStack() as closing:
        file = closing.enter_context(path.open("rb", buffering=0))
        status = os.fstat(file.fileno())
        is_regular = stat.S_ISREG(status.st_mode)
        progress.size_bytes = status.st_size if is_regular else 0
        head, stream = _peek(_Counted(file, progress))
        if not head:
            raise UnreadableError("is empty", "Export it again")
        is_gzip = head.startswith(_GZIP)
        if suffixes[-1:] == [".gz"] and not is_gzip:
            raise UnreadableError("is named .gz but is not gzip", "Compress it, or take .gz off its name")
        if is_gzip:
            head, stream = _peek(closing.enter_context(gzip.GzipFile(fileobj=stream, mode="rb")))
        if head.startswith(_PARQUET):
            if is_gzip or not is_regular:
                copy = closing.enter_context(tempfile.TemporaryFile())
                shutil.copyfileobj(stream, copy)
                stream = copy  # type: ignore[assignment]  # a file object in all but its type
            else:
                stream = io.BufferedReader(file, _BUFFER)
            stream.seek(0)
            yield Opened(stream, is_parquet=True)
            return
        if ".parquet" in suffixes:
            raise UnreadableError("is named .parquet but is not Parquet", "Write it again, or name it .csv")
        for magic, what in _OTHER_FORMATS.items():
            if head.startswith(magic):
                raise UnreadableError(what, "Unpack it, or export it as CSV or Parquet")
        yield Opened(stream, is_parquet=False)


def as_utf8(stream: io.BufferedReader) -> tuple[io.BufferedReader, str]:
    """The same text in UTF-8 without byte order mark, and the encoding that it has in the file.

    What cannot be decoded becomes invalid UTF-8, so that its line alone is refused.
    """
    head, stream = _peek(stream)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            stream.read(len(mark))
            return (stream if encoding == "UTF-8" else _buffered(_Transcoded(stream, encoding))), encoding
    return stream, "UTF-8"


class _Readable(Protocol):
    def readinto(self, buffer: Any, /) -> int | None: ...


def _peek(source: _Readable) -> tuple[bytes, io.BufferedReader]:
    """The first _MAGIC bytes, and all bytes with them. ``peek`` of a buffer may return fewer than a pipe will give."""
    stream = _buffered(_Raw(source))
    head = stream.read(_MAGIC)
    return head, _buffered(_Raw(stream, head))


def _buffered(raw: io.RawIOBase) -> io.BufferedReader:
    return io.BufferedReader(raw, _BUFFER)


class _Raw(io.RawIOBase):
    """Bytes that were read already, then those of a source."""

    def __init__(self, source: _Readable, head: bytes = b""):
        self._head = head
        self._read = getattr(source, "readinto1", source.readinto)  # at most one read of the file: a pipe may be slow

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if not self._head:
            return self._read(buffer)
        count = min(len(buffer), len(self._head))
        buffer[:count], self._head = self._head[:count], self._head[count:]
        return count


class _Counted:
    """A file that counts what is read of it."""

    def __init__(self, file: io.FileIO, progress: Progress):
        self._file, self._progress = file, progress

    def readinto(self, buffer: Any, /) -> int | None:
        count = self._file.readinto(buffer)
        self._progress.position_bytes += count or 0
        return count


class _Transcoded(io.RawIOBase):
    """UTF-16 or UTF-32 as UTF-8. Half a pair of surrogates stays what it is, which UTF-8 does not allow."""

    def __init__(self, stream: io.BufferedReader, encoding: str):
        self._stream, self._ready = stream, b""
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            read = self._stream.read1(_BUFFER)
            try:
                text = self._decoder.decode(read, final=not read)
            except UnicodeDecodeError as exc:
                raise UnreadableError(f"is damaged or cut off ({exc.reason})", "Fetch it again") from exc
            if not read:
                return 0
            self._ready = text.encode("utf-8", "surrogatepass")
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count
