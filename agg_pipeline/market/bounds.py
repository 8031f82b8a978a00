"""Bounds of the values of a valid raw bar: far beyond any market, and far from where sums of float8 overflow."""

MAX_PRICE = 1e30  # size of a price or a vwap; a price may be negative (spreads, oil)
MAX_VOLUME = 1e30
MAX_TRADE_COUNT = 10**15
STORED_TRADE_COUNT = 2**31 - 1  # what the column data_bars.trade_count holds, an integer of four bytes
FIRST_YEAR, LAST_YEAR = 1900, 2199  # of a time, UTC
