"""Expected bars of known days, worked out by hand from the rules of the exchanges."""

from typing import NamedTuple

Hours = tuple[int, int, int, int, int, int]


class Day(NamedTuple):
    """Expected on one UTC day: minutes, slots of 5 minutes, slots of an hour in each of the six 4h windows."""

    calendar: str
    date: str
    minutes: int
    fives: int
    hours: Hours


CLOSED = (0, 0, (0, 0, 0, 0, 0, 0))
AROUND_THE_CLOCK = (1440, 288, (4, 4, 4, 4, 4, 4))
# FX opens on Sunday and closes on Friday at 17:00 in New York: 21:00 UTC in summer, 22:00 in winter.
SUNDAY_SUMMER, SUNDAY_WINTER = (180, 36, (0, 0, 0, 0, 0, 3)), (120, 24, (0, 0, 0, 0, 0, 2))
FRIDAY_SUMMER, FRIDAY_WINTER = (1260, 252, (4, 4, 4, 4, 4, 1)), (1320, 264, (4, 4, 4, 4, 4, 2))
# 9:30 to 16:00 in New York, to 13:00 on half-days; an hour counts whole if any of it is open.
STOCKS_SUMMER, STOCKS_WINTER = (390, 78, (0, 0, 0, 3, 4, 0)), (390, 78, (0, 0, 0, 2, 4, 1))
HALF_SUMMER, HALF_WINTER = (210, 42, (0, 0, 0, 3, 1, 0)), (210, 42, (0, 0, 0, 2, 2, 0))

DAYS = [
    Day("24x7", "2025-03-08", *AROUND_THE_CLOCK),
    Day("24x7", "2024-02-29", *AROUND_THE_CLOCK),
    # FX: both switches of 2025 and 2026, the Sunday and Friday before and after each
    Day("fx_24x5", "2025-03-02", *SUNDAY_WINTER),
    Day("fx_24x5", "2025-03-07", *FRIDAY_WINTER),
    Day("fx_24x5", "2025-03-08", *CLOSED),
    Day("fx_24x5", "2025-03-09", *SUNDAY_SUMMER),
    Day("fx_24x5", "2025-03-14", *FRIDAY_SUMMER),
    Day("fx_24x5", "2025-03-30", *SUNDAY_SUMMER),  # Europe's switch is not New York's
    Day("fx_24x5", "2025-10-26", *SUNDAY_SUMMER),
    Day("fx_24x5", "2025-10-31", *FRIDAY_SUMMER),
    Day("fx_24x5", "2025-11-02", *SUNDAY_WINTER),
    Day("fx_24x5", "2025-11-07", *FRIDAY_WINTER),
    Day("fx_24x5", "2026-03-01", *SUNDAY_WINTER),
    Day("fx_24x5", "2026-03-06", *FRIDAY_WINTER),
    Day("fx_24x5", "2026-03-08", *SUNDAY_SUMMER),
    Day("fx_24x5", "2026-03-13", *FRIDAY_SUMMER),
    Day("fx_24x5", "2026-10-30", *FRIDAY_SUMMER),
    Day("fx_24x5", "2026-11-01", *SUNDAY_WINTER),
    Day("fx_24x5", "2026-11-06", *FRIDAY_WINTER),
    Day("fx_24x5", "2024-02-29", *AROUND_THE_CLOCK),
    Day("fx_24x5", "2020-02-29", *CLOSED),  # a Saturday
    Day("fx_24x5", "2025-12-25", *AROUND_THE_CLOCK),  # quiet, not closed
    Day("fx_24x5", "2025-04-18", *FRIDAY_SUMMER),  # Good Friday
    Day("fx_24x5", "2025-12-31", *AROUND_THE_CLOCK),
    # Stocks in New York: the trading day before and after each switch
    Day("XNYS", "2025-03-07", *STOCKS_WINTER),
    Day("XNYS", "2025-03-08", *CLOSED),
    Day("XNYS", "2025-03-09", *CLOSED),
    Day("XNYS", "2025-03-10", *STOCKS_SUMMER),
    Day("XNYS", "2025-10-31", *STOCKS_SUMMER),
    Day("XNYS", "2025-11-03", *STOCKS_WINTER),
    Day("XNYS", "2026-03-06", *STOCKS_WINTER),
    Day("XNYS", "2026-03-09", *STOCKS_SUMMER),
    Day("XNYS", "2026-10-30", *STOCKS_SUMMER),
    Day("XNYS", "2026-11-02", *STOCKS_WINTER),
    Day("XNYS", "2024-02-29", *STOCKS_WINTER),
    Day("XNYS", "2024-03-29", *CLOSED),  # Good Friday
    Day("XNYS", "2025-04-18", *CLOSED),  # Good Friday
    Day("XNYS", "2024-12-24", *HALF_WINTER),
    Day("XNYS", "2024-12-25", *CLOSED),
    Day("XNYS", "2025-12-24", *HALF_WINTER),
    Day("XNYS", "2025-12-25", *CLOSED),
    Day("XNYS", "2025-11-27", *CLOSED),  # Thanksgiving
    Day("XNYS", "2025-11-28", *HALF_WINTER),
    Day("XNYS", "2024-11-29", *HALF_WINTER),
    Day("XNYS", "2024-07-03", *HALF_SUMMER),
    Day("XNYS", "2025-07-03", *HALF_SUMMER),
    Day("XNYS", "2026-07-03", *CLOSED),  # the 4th is a Saturday
    Day("XNYS", "2025-01-09", *CLOSED),  # a day of mourning
    Day("XNYS", "2012-10-29", *CLOSED),  # a hurricane
    Day("XNYS", "2026-01-01", *CLOSED),
    # A lunch break makes two sessions: Tokyo 9:00-11:30 and 12:30-15:00, to 15:30 since November 5, 2024
    Day("XTKS", "2024-11-01", 300, 60, (4, 2, 0, 0, 0, 0)),
    Day("XTKS", "2024-11-05", 330, 66, (4, 3, 0, 0, 0, 0)),
    Day("XTKS", "2026-01-02", *CLOSED),
    # Hong Kong 9:30-12:00 and 13:00-16:00; only the morning on Christmas Eve
    Day("XHKG", "2025-12-23", 330, 66, (3, 3, 0, 0, 0, 0)),
    Day("XHKG", "2025-12-24", 150, 30, (3, 0, 0, 0, 0, 0)),
]
