"""Comparison of a database with the state that it would have without the fault."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import psycopg

from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.quality.recomputation import differences, reference_bars
from agg_pipeline.reading.columns import BAR_COLUMNS, KEY, RAW_COLUMNS
from agg_pipeline_tests.oracle import RAW_SELECT
from agg_pipeline_tests.sql.helpers import rows, scalar

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Verdict:
    """Errors found; the defaults mean none."""

    lost: int = 0
    wrong: int = 0
    disabled: int = 0
    doubled: list[dict[str, Any]] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)


def judged(db: psycopg.Connection) -> Verdict:
    lost, wrong = errors(db)
    return Verdict(
        lost,
        wrong,
        scalar(db, "select count(*) from data_agg_state where status in ('disabled', 'hard_failed')"),
        rows(
            db,
            """select canonical_symbol, timeframe, ts_utc from derived_data_bars group by 1, 2, 3
               having count(*) <> max(revision) or count(*) filter (where deleted_at is null) > 1""",
        ),
        rows(db, "select * from data_agg_state where status = 'running' or lease_owner is not null"),
    )


def errors(db: psycopg.Connection, symbols: Sequence[str] | None = None) -> tuple[int, int]:
    """Bars that are missing or surplus, and bars with a wrong value; of all symbols at once, which is quicker."""
    chosen = "(%(symbols)s::text[] is null or canonical_symbol = any(%(symbols)s))"
    asked = {"symbols": symbols}
    raw = db.execute(f"select {RAW_SELECT} from data_bars where {chosen}", asked).fetchall()
    live = db.execute(
        f"select {', '.join(BAR_COLUMNS)} from derived_data_bars where deleted_at is null and {chosen}", asked
    ).fetchall()
    assert live, "no bars: nothing was tested"
    expected = reference_bars(pd.DataFrame(raw, columns=RAW_COLUMNS), Timeframe("1m"), BEGIN)
    found = differences(pd.concat(expected.values()), pd.DataFrame(live, columns=BAR_COLUMNS))
    is_wrong = found["problem"] == "wrong"
    return int((~is_wrong).sum()), len(found[is_wrong].drop_duplicates(KEY))
