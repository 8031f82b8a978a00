"""What the pages of assets and runs show beside the bars: numbers that plot, and tables in Markdown."""

from collections.abc import Mapping, Sequence

import dagster as dg

from agg_pipeline.aggregation.backfill import Filled
from agg_pipeline.aggregation.outcomes import TaskOutcome
from agg_pipeline.database.models.bars import BarSummary, DayOfBars, QualityCounts
from agg_pipeline.database.models.rebuild import LevelRebuild
from agg_pipeline.market.timeframes import Timeframe

Metadata = dict[str, dg.MetadataValue]

QUALITIES = {
    "quality_2": "2 (all)",
    "quality_1": "1 (80 %)",
    "quality_0": "0 (60 %)",
    "quality_minus_1": "-1 (over half)",
}
"""Counts by quality score, and their heads in a table: how much of its source a bar has at least."""

_LONGEST_ERROR = 300


def day_metadata(day: DayOfBars) -> Metadata:
    """Bars of one day by quality."""
    numbers: Metadata = {"bars_of_day": dg.MetadataValue.int(day.bars)}
    numbers |= {name: dg.MetadataValue.int(count) for name, count in _counts(day).items()}
    table = markdown_table(["day", *QUALITIES.values()], [[f"{day.day}", *_counts(day).values()]])
    return numbers | {"quality": dg.MetadataValue.md(table)}


def range_metadata(timeframe: Timeframe, filled: Sequence[Filled], bars: Sequence[BarSummary], s: float) -> Metadata:
    """What a backfill did to a timeframe in ``s`` seconds, and how the bars of the range stand now."""
    levels = [one.levels[timeframe.value] for one in filled if timeframe.value in one.levels]
    own = [one for one in bars if one.timeframe == timeframe.value]
    rows = [[one.symbol, one.bars, *_counts(one).values(), _missing(one)] for one in own]
    heads = ["symbol", "bars", *QUALITIES.values(), "windows without a bar"]
    return {
        "what was done": dg.MetadataValue.md(plan_table(filled)),
        "quality of the range": dg.MetadataValue.md(markdown_table(heads, rows)),
        "symbols": dg.MetadataValue.int(len(filled)),
        "bars_created": dg.MetadataValue.int(sum(level.written for level in levels)),
        "bars_revised": dg.MetadataValue.int(sum(level.revised for level in levels)),
        "bars_retired": dg.MetadataValue.int(sum(level.retired for level in levels)),
        "bars_unchanged": dg.MetadataValue.int(sum(level.unchanged for level in levels)),
        "gaps": dg.MetadataValue.int(sum(map(_missing, own))),
        "seconds": dg.MetadataValue.float(round(s, 3)),
    }


def runlog_metadata(run_id: str) -> Metadata:
    """Where the run's diary is: a statement to be pasted into a SQL editor."""
    return {"ops_runlog": dg.MetadataValue.md(f"`select * from ops_runlog where run_id = '{run_id}'`")}  # noqa: S608 - a text


def plan_table(filled: Sequence[Filled]) -> str:
    """One row per symbol and timeframe: what filling did, or would do."""
    rows = []
    for one in filled:
        for timeframe in (t.value for t in Timeframe if t.value in one.levels or t.value in one.unbuilt):
            level = one.levels.get(timeframe, LevelRebuild(written=0, unchanged=0, revised=0, retired=0))
            done = [level.written, level.revised, level.retired, level.unchanged, one.unbuilt.get(timeframe, 0)]
            rows.append([one.symbol, timeframe, *done])
    return markdown_table(
        ["symbol", "timeframe", "written", "of them revised", "retired", "unchanged", "never built"], rows
    )


def failures_table(failed: Sequence[TaskOutcome]) -> str:
    """One row per task that failed."""
    rows = [[o.symbol, o.timeframe, o.kind, (o.error or "")[:_LONGEST_ERROR]] for o in failed]
    return markdown_table(["symbol", "timeframe", "kind", "error"], rows)


def _counts(counted: QualityCounts) -> Mapping[str, int]:
    return {name: getattr(counted, name) for name in QUALITIES}


def _missing(one: BarSummary) -> int:
    """Windows between the first and the last bar that have none, those of a closed market among them."""
    return (one.last_utc - one.first_utc) // Timeframe(one.timeframe).length + 1 - one.bars


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown; numbers on the right."""
    is_number = [bool(rows) and isinstance(value, int) for value in (rows[0] if rows else heads)]
    cells = [[f"{v:,}" if isinstance(v, int) else str(v).replace("|", "\\|") for v in row] for row in rows]
    rule = ["--:" if number else "---" for number in is_number]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(heads), rule, *cells])
