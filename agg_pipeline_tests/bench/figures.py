"""What is measured: every figure with its goal, and the place where the numbers of a run are kept.

A figure that no run has measured yet, or that misses its goal, stands in the table as well, so that nothing is left out
by not being there.
"""

import dataclasses
import datetime as dt
import json
import operator
import os
import platform
from pathlib import Path
from typing import Literal

_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on the value or on its ratio to the baseline."""

    of: Literal["value", "ratio"]
    sign: Literal["<=", ">="]
    bound: float

    def is_reached(self, measured: "Measured") -> bool:
        number = getattr(measured, self.of)
        return number is not None and bool(_COMPARE[self.sign](number, self.bound))


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table. The ratio is value / baseline, the median over the rounds of one run."""

    bench: str
    what: str
    against: str
    file: str
    goal: Goal | None = None
    why_missed: str = ""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a run found; ``at`` is the place of a point on a curve."""

    bench: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    at: float | None = None
    measured: str = ""

    def line(self) -> str:
        """The line of JSON that `make bench` prints."""
        shown = {k: v for k, v in dataclasses.asdict(self).items() if k != "measured" and (k != "at" or v is not None)}
        return json.dumps(shown)


class Record:
    """The newest numbers of each figure, one JSON line each, so that a run can be repeated in parts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Measured]:
        if not self._path.exists():
            return []
        return [Measured(**json.loads(line)) for line in self._path.read_text().splitlines()]

    def add(self, measured: Measured) -> None:
        kept = {(m.bench, m.at): m for m in self.read()} | {(measured.bench, measured.at): measured}
        lines = [json.dumps({k: v for k, v in dataclasses.asdict(m).items() if v is not None}) for m in kept.values()]
        self._path.write_text("\n".join(sorted(lines)) + "\n")


def rounded(number: float | None) -> float | None:
    """Three digits: no figure of a shared machine has more."""
    if number is None:
        return None
    return round(number) if abs(number) >= 100 else float(f"{number:.3g}")


def measured(
    bench: str, value: float, unit: str, *, baseline: float | None, ratio: float | None, at: float | None
) -> Measured:
    return Measured(
        bench, rounded(value) or 0.0, unit, rounded(baseline), rounded(ratio), at, dt.date.today().isoformat()
    )


def machine(postgres: str) -> str:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB, {postgres}, Python {platform.python_version()}"
