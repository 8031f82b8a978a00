"""Which column of a file is which: by its name, by what the operator says, or by a name that is common in the field.

Nothing is guessed: of two columns with common names for the same thing neither is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from agg_pipeline.ingest.bar_row import OPTIONAL, REQUIRED
from agg_pipeline.ingest.errors import UnreadableError, short

KNOWN = (*REQUIRED, *OPTIONAL)
COMMON = {
    "symbol": ("ticker", "canonical_symbol"),
    "ts_utc": ("ts", "timestamp", "datetime", "date", "time"),
    "volume": ("vol",),
}


Row = tuple[int, Sequence[object] | str]  # number of a row, and its fields or the reason why it has none
Find = Callable[[Sequence[str]], "Columns"]


@dataclass(frozen=True)
class Columns:
    """Columns of one file.

    Attributes:
        header: names of all, as they are in the file.
        places: index in the header of each of KNOWN, None if it is absent.
        ignored: names of those that are not read.
        renamed: name in the file of each of KNOWN that has another one there.
    """

    header: list[str]
    places: list[int | None]
    ignored: list[str]
    renamed: dict[str, str]


def canonical_name(text: str) -> str | None:
    """The column of KNOWN that a name stands for, None if it stands for none."""
    name = _plain(text)
    return name if name in KNOWN else next((known for known, common in COMMON.items() if name in common), None)


def find_columns(header: Sequence[str], named: Mapping[str, str], *, has_symbol: bool = False) -> Columns:
    """Find each of KNOWN in a header.

    Args:
        named: name in the file of columns of KNOWN, as the operator says.
        has_symbol: the operator says the symbol, so the file must not have a column for it.
    Raises:
        UnreadableError: a required column is absent, or a column is there twice.
    """
    header = list(header)
    plain = [_plain(name) for name in header]
    places = {known: _place(known, header, plain, named.get(known)) for known in KNOWN}
    if has_symbol and (place := places["symbol"]) is not None:
        raise UnreadableError(f"has a column {short(header[place])} of symbols", "Leave out --symbol")
    if missing := [name for name in REQUIRED if places[name] is None and not (name == "symbol" and has_symbol)]:
        raise UnreadableError(
            f"has no column {', '.join(missing)}; it has {short(', '.join(header), 200)}", _remedy(missing)
        )
    taken = [place for place in places.values() if place is not None]
    if twice := [header[place] for place in taken if taken.count(place) > 1]:
        raise UnreadableError(f"has one column {short(twice[0])} for two things", "Name two columns with --columns")
    return Columns(
        header=header,
        places=list(places.values()),
        ignored=[name for place, name in enumerate(header) if place not in taken],
        renamed={name: header[place] for name, place in places.items() if place is not None and plain[place] != name},
    )


def _place(known: str, header: list[str], plain: list[str], said: str | None) -> int | None:
    if said is not None:
        found = [n for n, name in enumerate(header) if name.strip() == said]
        found = found or [n for n, name in enumerate(plain) if name == _plain(said)]
        if not found:
            raise UnreadableError(
                f"has no column {short(said)} for {known}; it has {short(', '.join(header), 200)}",
                "Correct --columns",
            )
        if len(found) > 1:
            raise UnreadableError(f"has column {short(said)} twice", "Keep one of each")
        return found[0]
    found = [n for n, name in enumerate(plain) if name == known]
    if len(found) > 1:
        raise UnreadableError(f"has column {known} twice", "Keep one of each")
    if not found:
        found = [n for n, name in enumerate(plain) if name in COMMON.get(known, ())]
    if len(found) > 1:
        raise UnreadableError(
            f"has {' and '.join(short(header[n]) for n in found)}, each of which can be {known}",
            f"Say which with --columns {_option(known)}=NAME"
            + (", or write date and time into one column" if known == "ts_utc" else ""),
        )
    return found[0] if found else None


def _remedy(missing: list[str]) -> str:
    if missing == ["symbol"]:
        return "Pass --symbol NAME, or name the column with --columns symbol=NAME"
    if len(missing) == len(REQUIRED):
        return f"The first line must name the columns: {','.join(REQUIRED)}[,{','.join(OPTIONAL)}]"
    return f"Name what is there with --columns {','.join(f'{_option(name)}=NAME' for name in missing)}"


def _option(known: str) -> str:
    return "ts" if known == "ts_utc" else known


def _plain(name: str) -> str:
    return name.strip().lower()
