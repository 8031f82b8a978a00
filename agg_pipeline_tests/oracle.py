"""Comparison of all live derived bars with a recomputation of all raw bars in pandas."""

import datetime as dt
from collections.abc import Sequence

import pandas as pd
import psycopg

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.market.trading_hours import Schedule, TradingHours
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline.reading.columns import BAR_COLUMNS, RAW_COLUMNS

# pandas has one NaN for unknown and for not a number; the database has two, and NaN as volume makes a row invalid.
RAW_SELECT = ", ".join(
    "case when vol = 'NaN' then 'Infinity' else vol end as vol" if column == "vol" else column for column in RAW_COLUMNS
)

READABLE = "ts_utc between '1700-01-01Z' and '2250-01-01Z'"  # times that pandas has; all others are out of range anyway


def assert_equals_oracle(
    connection: psycopg.Connection, symbols: Sequence[str] | None = None
) -> dict[tuple[str, str], int]:
    """Assert that the live bars of the assets (None: of all) equal the recomputation; returns the bars per task."""
    counts: dict[tuple[str, str], int] = {}
    # Assets of the same base, start and hours at once: pandas takes as long for twenty as for one.
    groups = connection.execute(
        """select array_agg(a.canonical_symbol), a.base_timeframe, a.start_utc
             from (select a.canonical_symbol, a.base_timeframe, a.trading_calendar, min(s.agg_start_utc) as start_utc,
                          (select max(c.canonical_symbol) from trading_calendar_changes c
                            where c.canonical_symbol = a.canonical_symbol) as hours_of_its_own
                     from core_asset_registry_all a join data_agg_state s using (canonical_symbol)
                    where %(symbols)s::text[] is null or a.canonical_symbol = any (%(symbols)s)
                    group by a.canonical_symbol) a
            group by a.base_timeframe, a.start_utc, a.trading_calendar, a.hours_of_its_own""",
        {"symbols": symbols and list(symbols)},
    ).fetchall()
    for alike, base, start in groups:
        raw, actual = bars_of(connection, *alike)
        levels = reference_bars(raw, Timeframe(base), start, hours_of(connection, alike[0]))
        wrong = differences(pd.concat(levels.values()), actual)
        assert wrong.empty, f"{len(wrong)} differences\n{wrong.head(10).to_string()}"
        for timeframe, bars in levels.items():
            found = bars["canonical_symbol"].value_counts()
            counts |= {(symbol, timeframe.value): int(found.get(symbol, 0)) for symbol in alike}
    return counts


def bars_of(connection: psycopg.Connection, *symbols: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raw bars and live derived bars of some symbols, with RAW_COLUMNS and BAR_COLUMNS."""
    raw = connection.execute(
        f"select {RAW_SELECT} from data_bars where canonical_symbol = any (%s) and {READABLE}", [list(symbols)]
    ).fetchall()
    live = connection.execute(
        f"""select {", ".join(BAR_COLUMNS)} from derived_data_bars
             where canonical_symbol = any (%s) and deleted_at is null""",
        [list(symbols)],
    ).fetchall()
    return pd.DataFrame(raw, columns=RAW_COLUMNS), pd.DataFrame(live, columns=BAR_COLUMNS)


def hours_of(connection: psycopg.Connection, symbol: str) -> TradingHours:
    """Trading hours of a symbol from registry, calendar changes and sessions, without the SQL functions for them."""
    always = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)
    follows = connection.execute(
        """select null, trading_calendar from core_asset_registry_all where canonical_symbol = %(symbol)s
           union all
           select from_utc, trading_calendar from trading_calendar_changes where canonical_symbol = %(symbol)s
            order by 1 nulls first""",
        {"symbol": symbol},
    ).fetchall()
    starts = [always[0], *(since for since, _ in follows[1:]), always[1]]
    schedules = []
    for (_, calendar), begin, end in zip(follows, starts, starts[1:], strict=False):
        coverage = connection.execute(
            "select from_utc, to_utc from trading_calendars where calendar = %s and from_utc is not null", [calendar]
        ).fetchone()
        if coverage is not None:
            sessions = connection.execute(
                "select open_utc, close_utc from trading_sessions where calendar = %s order by 1", [calendar]
            ).fetchall()
            schedules.append(Schedule((max(begin, coverage[0]), min(end, coverage[1])), sessions))
    return TradingHours(schedules)
