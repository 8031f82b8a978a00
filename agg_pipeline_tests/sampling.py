"""Long tables of cases: `make test` runs a fixed sample of each, `make nightly` all of it."""

from collections.abc import Iterable
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def sampled(cases: Iterable[T], sample: Iterable[T]) -> list[T | ParameterSet]:
    """All cases; those outside of the sample are for `make nightly`. A case is a value or a tuple of values."""
    cases, sample = list(cases), list(sample)
    unknown = [case for case in sample if case not in cases]
    assert not unknown, f"in the sample, but no cases: {unknown}"
    nightly = pytest.mark.nightly
    return [
        case if case in sample else pytest.param(*(case if isinstance(case, tuple) else [case]), marks=nightly)
        for case in cases
    ]
