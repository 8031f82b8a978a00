"""Metadata of materializations and runs: numbers that Dagster plots, and tables in Markdown."""

from collections.abc import Mapping, Sequence

import dagster as dg

from agg_pipeline.aggregation.backfill import BackfillResult
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.database.models.bars import BarSummary, DayOfBars, QualityCounts
from agg_pipeline.database.models.rebuild import NOTHING_REBUILT
from agg_pipeline.market.names import markdown_cell
from agg_pipeline.market.timeframes import Timeframe

Metadata = dict[str, dg.MetadataValue]

QUALITIES = {
    "quality_2": "2 (all)",
    "quality_1": "1 (80 %)",
    "quality_0": "0 (60 %)",
    "quality_minus_1": "-1 (over half)",
}
"""Counts by quality score, and their column headers: the least share of its source bars that a bar is built from."""

_MAX_ERROR_LENGTH = 300


def day_metadata(day: DayOfBars) -> Metadata:
    """Bars of one day by quality score."""
    numbers: Metadata = {"bars_of_day": dg.MetadataValue.int(day.bars)}
    numbers |= {name: dg.MetadataValue.int(count) for name, count in _counts(day).items()}
    table = markdown_table(["day", *QUALITIES.values()], [[f"{day.day}", *_counts(day).values()]])
    return numbers | {"quality": dg.MetadataValue.md(table)}


def range_metadata(
    timeframe: Timeframe, results: Sequence[BackfillResult], bars: Sequence[BarSummary], seconds: float
) -> Metadata:
    """What a backfill of ``seconds`` did to a timeframe, and the bars of its range after it."""
    levels = [one.levels[timeframe.value] for one in results if timeframe.value in one.levels]
    own = [one for one in bars if one.timeframe == timeframe.value]
    rows = [[one.symbol, one.bars, *_counts(one).values(), _missing(one)] for one in own]
    headers = ["symbol", "bars", *QUALITIES.values(), "windows without a bar"]
    return {
        "what was done": dg.MetadataValue.md(plan_table(results)),
        "quality of the range": dg.MetadataValue.md(markdown_table(headers, rows)),
        "symbols": dg.MetadataValue.int(len(results)),
        "bars_created": dg.MetadataValue.int(sum(level.written for level in levels)),
        "bars_revised": dg.MetadataValue.int(sum(level.revised for level in levels)),
        "bars_retired": dg.MetadataValue.int(sum(level.retired for level in levels)),
        "bars_unchanged": dg.MetadataValue.int(sum(level.unchanged for level in levels)),
        "gaps": dg.MetadataValue.int(sum(map(_missing, own))),
        "seconds": dg.MetadataValue.float(round(seconds, 3)),
    }


def runlog_metadata(run_id: str) -> Metadata:
    """A query of the run's row in ops_runlog, to paste into a SQL editor."""
    return {"ops_runlog": dg.MetadataValue.md(f"`select * from ops_runlog where run_id = '{run_id}'`")}  # noqa: S608 - a text


def plan_table(results: Sequence[BackfillResult]) -> str:
    """One row per symbol and timeframe: what a backfill did, or in a dry run would do."""
    rows = []
    for one in results:
        for timeframe in (t.value for t in Timeframe if t.value in one.levels or t.value in one.unbuilt):
            level = one.levels.get(timeframe, NOTHING_REBUILT)
            done = [level.written, level.revised, level.retired, level.unchanged, one.unbuilt.get(timeframe, 0)]
            rows.append([one.symbol, timeframe, *done])
    return markdown_table(
        ["symbol", "timeframe", "written", "of them revised", "retired", "unchanged", "never built"], rows
    )


def failures_table(failed: Sequence[TaskOutcome]) -> str:
    """One row per task that failed."""
    rows = [[o.symbol, o.timeframe, o.kind, (o.error or "")[:_MAX_ERROR_LENGTH]] for o in failed]
    return markdown_table(["symbol", "timeframe", "kind", "error"], rows)


def _counts(bars: QualityCounts) -> Mapping[str, int]:
    return {name: getattr(bars, name) for name in QUALITIES}


def _missing(one: BarSummary) -> int:
    """Windows without a bar from the first bar to the last, including those of a closed market."""
    return (one.last_utc - one.first_utc) // Timeframe(one.timeframe).length + 1 - one.bars


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; numbers are aligned on the right."""
    is_number = [bool(rows) and isinstance(value, int) for value in (rows[0] if rows else headers)]
    cells = [[f"{v:,}" if isinstance(v, int) else markdown_cell(str(v)) for v in row] for row in rows]
    rule = ["--:" if number else "---" for number in is_number]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(headers), rule, *cells])
