"""What an operator says about bar files, for what is not recognised or must not be guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

from agg_pipeline.ingest.bar_columns import canonical_name
from agg_pipeline.ingest.bar_row import parse_symbol
from agg_pipeline.ingest.csv_lines import SEPARATORS
from agg_pipeline.ingest.errors import short


@dataclass(frozen=True)
class FileOptions:
    """Options that hold for all rows of a file. Build them with ``parse``, which validates.

    Attributes:
        separator: of a CSV file, one character; None: recognised by the header.
        zone: time zone of times without an offset; None: UTC.
        columns: name in the file of columns that have neither the usual name nor a common one.
        symbol: symbol of a file that has no such column.
        decimal_comma: numbers in text have a decimal comma.
    """

    separator: str | None = None
    zone: ZoneInfo | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    symbol: str | None = None
    decimal_comma: bool = False

    @classmethod
    def parse(
        cls,
        *,
        separator: str | None = None,
        timezone: str | None = None,
        columns: Iterable[str] = (),
        symbol: str | None = None,
        decimal_comma: bool = False,
    ) -> FileOptions:
        """Options from text. Raises ValueError; the message names the option and says what it takes."""
        return cls(
            separator=None if separator is None else _separator(separator),
            zone=None if timezone is None else _zone(timezone),
            columns=_columns(columns),
            symbol=None if symbol is None else _symbol(symbol),
            decimal_comma=decimal_comma,
        )


def _separator(text: str) -> str:
    by_name = {name: separator for separator, name in SEPARATORS.items()} | {"\\t": "\t", "space": " "}
    separator = by_name.get(text.lower(), text)
    # What stands in numbers, times and quoted fields separates nothing.
    if len(separator) != 1 or separator.isalnum() or separator in "+-.:\"'\r\n\0" or not separator.isascii():
        names = ", ".join(SEPARATORS.values())
        raise ValueError(f"--separator {short(text)} cannot separate fields; pass one character or {names} or space")
    return separator


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a name, such as ../x; a folder of zones
        raise ValueError(
            f"--timezone {short(name)} is no time zone; pass an IANA name such as America/New_York, or UTC"
        ) from None


def _columns(texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in (pair for text in texts for pair in text.split(",")):
        key, equals, name = (part.strip() for part in pair.partition("="))
        column = canonical_name(key)
        if not equals or not name or column is None:
            raise ValueError(
                f"--columns {short(pair)} names no column; write it as ts=Date,open=O with symbol, ts, open, high, "
                "low, close, volume, vwap or trade_count before the ="
            )
        if column in found:
            raise ValueError(f"--columns names {column} twice; keep one of {short(found[column])} and {short(name)}")
        found[column] = name
    return found


def _symbol(text: str) -> str:
    try:
        return parse_symbol(text)
    except ValueError as exc:
        raise ValueError(f"--symbol: {exc}") from None
