"""Columns of data frames of bars, by their names in the database."""

KEY = ["canonical_symbol", "timeframe", "ts_utc"]
PRICES = ["open", "high", "low", "close"]
RAW_COLUMNS = [*KEY, *PRICES, "vol", "vwap", "trade_count", "is_partial"]
BAR_COLUMNS = [*RAW_COLUMNS, "source_candles", "expected_candles", "quality_score"]
