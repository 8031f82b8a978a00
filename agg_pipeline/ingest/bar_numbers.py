"""Numbers of a bar file: text or typed, with a decimal point or comma, with or without separators of thousands.

A comma is never guessed: ``1,234.5`` and ``1,234,567`` have separators of thousands and ``1,0921`` has a decimal comma,
but ``1,234`` is read only where another number of its row shows that the point is the decimal sign.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from agg_pipeline.ingest.errors import BadRowError, short

# What stands for an unknown number, in any case; so does a number that is not one (NaN).
UNKNOWN_WORDS = frozenset({"", "-", "nan", "null", "none", "n/a", "na", "#n/a", "<na>", "nat"})

_EXPONENT = r"([eE][+-]?\d+)?"
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}((,\d{3})+\.\d*|(,\d{3}){2,})", re.ASCII)
_ONE_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
# The point of these is a decimal one: other than three digits stand behind it, or more than three or a zero before it.
_DECIMAL_POINT = re.compile(rf"[+-]?(\d*\.(\d{{1,2}}|\d{{4,}})|(0|\d{{4,}})\.\d+){_EXPONENT}", re.ASCII)
_COMMA_STYLE = re.compile(rf"[+-]?(\d*(,\d*)?{_EXPONENT}|[1-9]\d{{0,2}}(\.\d{{3}})+(,\d*)?)", re.ASCII)


def parse_number(name: str, value: object, row: Sequence[object] = (), *, decimal_comma: bool = False) -> float | None:
    """The number that a field of column ``name`` holds; None if it is unknown.

    Args:
        row: all numbers of the row, which show what a comma means.
        decimal_comma: commas are decimal signs, points separate thousands.
    Raises:
        BadRowError: it is not a number, or can be read as two different ones.
    """
    if isinstance(value, str):
        try:
            if decimal_comma or "_" in value or not value.isascii():  # float() accepts 1_000 and non-ASCII digits
                raise ValueError
            number = float(value)
        except ValueError:
            return _number_of_text(name, value.strip(), row, decimal_comma=decimal_comma)
    elif value is None:
        return None
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):  # a signalling NaN; an integer beyond float8
            raise _not_a_number(name, value) from None
    else:
        raise _not_a_number(name, value)
    return number if number == number else None


def _number_of_text(name: str, text: str, row: Sequence[object], *, decimal_comma: bool) -> float | None:
    if text.lower() in UNKNOWN_WORDS:
        return None
    if decimal_comma:
        if not _COMMA_STYLE.fullmatch(text):
            raise _not_a_number(name, text, " with a decimal comma")
        return _float(name, text.replace(".", "").replace(",", "."))
    if "," not in text:
        raise _not_a_number(name, text)
    if _THOUSANDS.fullmatch(text):
        return _float(name, text.replace(",", ""))
    if not _ONE_COMMA.fullmatch(text):
        cause = f"{name} has a comma that does not separate thousands; if it is a decimal comma, pass --decimal-comma"
        raise BadRowError(cause, f"{name} {short(text)}: {cause.removeprefix(name).lstrip()}")
    others = (other.strip() for other in row if isinstance(other, str))
    if not any(_THOUSANDS.fullmatch(other) or _DECIMAL_POINT.fullmatch(other) for other in others):
        whole, point = text.replace(",", ""), text.replace(",", ".")
        raise BadRowError(
            f"{name} has a comma that can be a decimal one or separate thousands; write it without, or pass "
            "--decimal-comma",
            f"{name} {short(text)} can be {whole} or {point}; write it without the comma, or pass --decimal-comma",
        )
    return _float(name, text.replace(",", ""))


def _float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _not_a_number(name, text) from None


def _not_a_number(name: str, value: object, style: str = "") -> BadRowError:
    return BadRowError(f"{name} is not a number{style}", f"{name} {short(value)} is not a number{style}")
