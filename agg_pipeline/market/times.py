"""Times that somebody types: ISO texts, within the years of bars."""

import datetime as dt

from agg_pipeline.market.bounds import FIRST_YEAR, LAST_YEAR


def parse_iso(text: str) -> dt.datetime:
    """The time of an ISO text: UTC if the text has an offset, else naive.

    Raises:
        ValueError: it is none, or outside of the years of bars, where arithmetic with times soon overflows.
    """
    time = dt.datetime.fromisoformat(text)
    if not FIRST_YEAR <= time.year <= LAST_YEAR + 1:  # one more: the end of a range is exclusive
        raise ValueError(f"{text} is not between {FIRST_YEAR} and {LAST_YEAR + 1}")
    return time.astimezone(dt.UTC) if time.tzinfo else time
