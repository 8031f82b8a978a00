"""Rejected rows of a file, and their groups by cause."""

from __future__ import annotations

from dataclasses import dataclass, field

_NUMBERS = 5  # that a group names


@dataclass(frozen=True)
class Reject:
    """A rejected row. ``number`` counts from 1: physical lines of a CSV file, data rows of a Parquet file.

    Attributes:
        reason: what is wrong, with the values of the row.
        cause: the same without them.
    """

    unit: str
    number: int
    reason: str
    cause: str

    def __str__(self) -> str:
        return f"{self.unit} {self.number}: {self.reason}"


@dataclass
class _Group:
    first: Reject
    numbers: list[int] = field(default_factory=list)
    count: int = 0


class RejectGroups:
    """Rejected rows by cause. Holds the first of each cause and a few numbers, however many rows there are."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    def add(self, reject: Reject) -> None:
        group = self._groups.setdefault(reject.cause, _Group(reject))
        group.count += 1
        if len(group.numbers) < _NUMBERS:
            group.numbers.append(reject.number)

    def lines(self) -> list[str]:
        """One line per cause, in the order in which they first appeared."""
        return [_line(group) for group in self._groups.values()]


def _line(group: _Group) -> str:
    first = group.first
    if group.count == 1:
        return str(first)
    shown = ", ".join(map(str, group.numbers))
    rest = f" and {group.count - len(group.numbers):,} more" if group.count > len(group.numbers) else ""
    example = f"; {first}" if first.reason != first.cause else ""
    return f"{group.count:,} {first.unit}s: {first.cause} ({first.unit}s {shown}{rest}{example})"
