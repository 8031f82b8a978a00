"""Measure sides against each other: in turn, round by round, so that what else the machine does meets all alike."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

Side = Callable[[int], float]
"""Does the work of the n-th round and returns the seconds that count."""


class Watch:
    """Seconds of a ``with`` block, or of several in a row."""

    seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


def in_turn(sides: Mapping[str, Side], *, rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of every side and round but the warm-up; each round begins with another side."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for n in range(warm_up + rounds):
        turn = n % len(order)
        for name in order[turn:] + order[:turn]:
            seconds[name].append(sides[name](n))
    return {name: spent[warm_up:] for name, spent in seconds.items()}


def median_ratio(values: Sequence[float], baselines: Sequence[float]) -> float:
    """Median of the ratios round by round: a slow minute of the machine is in both of a round."""
    return statistics.median(value / baseline for value, baseline in zip(values, baselines, strict=True))
