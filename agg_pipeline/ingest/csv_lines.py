"""Lines of a CSV file: which character separates fields, the header, and the fields of each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from agg_pipeline.ingest.bar_columns import Columns, Find, Row
from agg_pipeline.ingest.errors import UnreadableError, short
from agg_pipeline.ingest.opening import as_utf8

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}  # those that are recognised
_MAX_LINE = 65_536  # bytes; bounds the memory for a file without line ends
_BAD_QUOTE = "has a quote that is not closed or stands inside a field"


class CsvLines:
    """A CSV file. The constructor reads the header.

    Each line is a row: no field of a bar spans lines, so that an unclosed quote affects its own line only.

    Args:
        find: finds the columns in a header, or raises UnreadableError.
        separator: None: the one of SEPARATORS that makes a header of the first line.
    Attributes:
        columns, separator: of the header.
    Raises:
        UnreadableError: it has no header, or none with the columns that are needed.
    """

    unit = "line"

    def __init__(self, stream: io.BufferedReader, find: Find, separator: str | None = None):
        self._stream, self._encoding = as_utf8(stream)
        self._number = 0
        header = self._first_line()
        self.separator, self.columns = self._recognise(header, find, separator)

    def rows(self) -> Iterator[Row]:
        """Every row after the header that is not blank, with its number in the file, counted from 1."""
        readline, separator, encoding = self._stream.readline, self.separator, self._encoding
        number = self._number
        while line := readline(_MAX_LINE):
            number += 1
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                while (rest := readline(_MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield number, f"is over {_MAX_LINE} bytes long"
                continue
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                yield number, f"is not {encoding}"
                continue
            if not text.isspace():
                yield number, split(text, separator)

    def _first_line(self) -> str:
        """The first line that is not blank."""
        while line := self._stream.readline(_MAX_LINE):
            self._number += 1
            if b"\0" in line:
                raise UnreadableError("holds NUL bytes: it is not text", "Save it as CSV in UTF-8 or as Parquet")
            if b"\r" in line.rstrip(b"\r\n"):
                raise UnreadableError("ends its lines with CR alone", "Save it with LF or CRLF line ends")
            if len(line) == _MAX_LINE and not line.endswith(b"\n"):
                raise UnreadableError(
                    f"has a line {self._number} of over {_MAX_LINE} bytes", "Is it a CSV file of bars?"
                )
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                raise self._no_header(f"is not {self._encoding}") from None
            if text.strip():
                return text
        raise UnreadableError("holds only blank lines", "Export it again")

    def _recognise(self, text: str, find: Find, separator: str | None) -> tuple[str, Columns]:
        """The separator that makes a header of the line. The error is that of the one that makes most fields."""
        errors: list[tuple[int, str, UnreadableError]] = []
        for candidate in [separator] if separator else SEPARATORS:
            fields = split(text, candidate)
            if isinstance(fields, str):
                errors.append((0, candidate, self._no_header(fields)))
                continue
            try:
                return candidate, find(fields)
            except UnreadableError as exc:
                errors.append((len(fields), candidate, exc))
        count, found, error = max(errors, key=lambda tried: tried[0])
        if count == 1 and not separator:
            raise UnreadableError(
                f"{error.what}; no {', '.join(SEPARATORS.values())} separates it",
                f"{error.remedy}, or pass --separator",
            )
        if count > 0 and found != ",":
            raise UnreadableError(f"{error.what}, separated by {name_of(found)}", error.remedy)
        raise error

    def _no_header(self, why: str) -> UnreadableError:
        return UnreadableError(f"has no readable header: line {self._number} {why}", "Save it as CSV in UTF-8")


def name_of(separator: str) -> str:
    return SEPARATORS.get(separator, short(separator))


def split(line: str, separator: str) -> list[str] | str:
    """Fields of one line of CSV, or the reason why it cannot be parsed."""
    text = line.rstrip("\r\n")
    if '"' not in text:
        return text.split(separator)
    try:
        return next(csv.reader([text], delimiter=separator, strict=True))
    except (csv.Error, StopIteration):
        return _BAD_QUOTE
