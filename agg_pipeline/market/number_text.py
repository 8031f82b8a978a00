"""Numbers as text for people: prices and volumes of bars, differences between them, labels of an axis.

No digit that tells two numbers apart is left out: a price of 1e-12 is not 0.0000000000, and two that differ in the last
bit do not look the same. Does not belong here: counts and percentages, which Python's own formats show well.
"""

import itertools
import math
from collections.abc import Sequence

_MOST_DIGITS = 17
"""Significant digits with which any two different floats have different texts."""

_LONGEST_PLAIN = 12
"""Characters of a label that is not written with an exponent: 100,000 with five decimals, 0.0000012345."""


def exact(value: float | None) -> str:
    """The shortest text that reads back as the same float: 100, 0.1, 1.23e-06. ``-`` for an unknown one, NaN too."""
    if value is None or math.isnan(value):
        return "-"
    return repr(float(value)).removesuffix(".0")


def difference(value: float) -> str:
    """A difference or ratio with 12 significant digits, which leaves out the noise of a subtraction of floats."""
    return f"{value:.12g}"


def tick_labels(values: Sequence[float]) -> list[str]:
    """Labels of the finite values of an axis, all of one precision: different values have different labels.

    A label is off its value by less than a tenth of the distance between neighbours. Values with many zeros in front or
    behind are written with an exponent.
    """
    values = [float(value) + 0.0 for value in values]  # -0.0 is 0
    distinct = sorted(set(values))
    if len(distinct) < 2:
        return [exact(value) for value in values]
    step = min(after - before for before, after in itertools.pairwise(distinct))
    largest = max(abs(distinct[0]), abs(distinct[-1]))
    step_exponent = _exponent(min(step, largest))  # a difference of huge values is infinite
    decimals = max(0, 1 - step_exponent)
    plain = [f"{value:z.{decimals}f}" for value in values]
    if len(set(plain)) == len(distinct) and max(map(len, plain)) <= _LONGEST_PLAIN:
        return _without_common_zeros(plain, [""] * len(plain))
    digits = min(max(1, _exponent(largest) - step_exponent + 2), _MOST_DIGITS)
    labels = [f"{value:.{digits - 1}e}" for value in values]
    while len(set(labels)) < len(distinct):
        digits += 1
        labels = [f"{value:.{digits - 1}e}" for value in values]
    parts = [label.split("e") for label in labels]
    return _without_common_zeros([part[0] for part in parts], [f"e{part[1]}" for part in parts])


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))


def _without_common_zeros(numbers: list[str], ends: list[str]) -> list[str]:
    while all("." in number and number[-1] in "0." for number in numbers):
        numbers = [number[:-1] for number in numbers]
    return [number + end for number, end in zip(numbers, ends, strict=True)]
