"""Numbers as text: whatever the size, neighbours look different and no digit that matters is left out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agg_pipeline.market.number_text import difference, exact, tick_labels

finite = st.floats(allow_nan=False, allow_infinity=False)
prices = st.one_of(finite, st.floats(1e-13, 1e-3), st.floats(-1e3, 1e6), st.sampled_from([0.0, -0.0, 5e-324, 1e30]))
ticks = st.one_of(
    st.lists(prices, min_size=1, max_size=6),
    st.builds(
        lambda start, ulps: [start + n * ulps * math.ulp(start) for n in range(4)], st.floats(-1e300, 1e300),
        st.integers(1, 10**9),
    ),
)  # fmt: skip


@given(ticks)
def test_neighbouring_ticks_have_labels_that_differ(values: list[float]) -> None:
    labels = tick_labels(values)
    assert len({label: None for label in labels}) == len(set(values))
    for value, label in zip(values, labels, strict=True):
        near = [abs(value - other) for other in values if other != value]
        assert abs(float(label) - value) <= min(near, default=0) / 10, "it names the place where it stands"
        assert len(label) <= 25


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([99_000, 100_000, 101_000], ["99000", "100000", "101000"]),
        ([1.0e-12, 1.5e-12, 2.0e-12], ["1.0e-12", "1.5e-12", "2.0e-12"]),
        ([0.00000123, 0.00000124], ["0.00000123", "0.00000124"]),
        ([-37.63, 0.0, 12.5], ["-38", "0", "12"]),
        ([1e30, 1.25e30], ["1.00e+30", "1.25e+30"]),
        ([1.1, 1.2, 1.3], ["1.1", "1.2", "1.3"]),
        ([100_000.0, 100_000.01], ["100000.00", "100000.01"]),
        ([5.0], ["5"]),
        ([1.0, math.nextafter(1.0, 2.0)], ["1.0000000000000000e+00", "1.0000000000000002e+00"]),
        ([-1.7e308, 1.7e308], ["-1.7e+308", "1.7e+308"]),
        ([], []),
    ],
)
def test_labels_are_short(values: list[float], labels: list[str]) -> None:
    assert tick_labels(values) == labels


@given(finite)
def test_an_exact_number_reads_back_as_the_same(value: float) -> None:
    assert float(exact(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(100.0, "100"), (0.1, "0.1"), (-37.63, "-37.63"), (1e-12, "1e-12"), (1e30, "1e+30"), (None, "-"),
     (math.nan, "-"), (12345678.12345, "12345678.12345")],
)  # fmt: skip
def test_exact_numbers(value: float | None, text: str) -> None:
    assert exact(value) == text


def test_differences_have_no_noise_and_keep_their_digits() -> None:
    assert (difference(100.2 - 100.1), difference(1234567.0), difference(-1e-12)) == ("0.1", "1234567", "-1e-12")
