"""What the checks found, as Dagster shows it: on the page of each asset, by name, with the first findings as a table.

Ticks, backfills and the button on the page all report under the same names. An evaluation speaks for all symbols that
were looked at, and says which those were; the newest one gives the colour, the older ones stay in its history.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import dagster as dg

from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.orchestration.metadata import Metadata, markdown_table
from agg_pipeline.quality.check_results import CheckResult, Finding

RAW_ASSET = "bars_raw"
SHOWN = 20  # findings in the table of an evaluation

_QUESTIONS = {
    "matches_recomputation": "Every bar is what pandas makes of the raw bars, apart from the SQL that built it.",
    "no_gaps": "There is a bar wherever the source holds more than half of a window, and none elsewhere.",
    "parents_agree": "Prices, volume and trades are those of the bars that it is built from.",
    "prices_sane": "Prices are finite and consistent, above 0, and do not jump.",
    "coverage": "At most 5 % of the source bars that are expected are missing.",
    "health": "No task failed, stalled or stopped, and no feed is silent while its market is open.",
    "lag": "No task is more than three windows behind its source.",
}

_RAW_QUESTIONS = {
    "prices_sane": "A raw bar with such prices counts as missing, or looks odd.",
    "right_table": "Raw bars are in data_bars under their asset's base timeframe, all others in derived_data_bars.",
    "no_duplicates": "There is one row for each bar.",
}


def asset_key(timeframe: str) -> str:
    """The asset of a derived timeframe."""
    return f"bars_{timeframe}"


def check_specs() -> list[dg.AssetCheckSpec]:
    """The checks of the derived bars, as evaluations name them."""
    asked = []
    for timeframe, source in LADDER.items():
        names = [name for name in _QUESTIONS if name != "parents_agree" or source != Timeframe.M1]
        asked += [(asset_key(timeframe), name) for name in names]
    return [dg.AssetCheckSpec(name, asset=asset, description=_QUESTIONS[name]) for asset, name in asked]


def raw_check_specs() -> list[dg.AssetCheckSpec]:
    """The checks of the raw bars."""
    return [dg.AssetCheckSpec(name, asset=RAW_ASSET, description=said) for name, said in _RAW_QUESTIONS.items()]


def evaluations(results: Iterable[CheckResult], looked_at: str) -> Iterator[dg.AssetCheckEvaluation]:
    """One evaluation per asset and check, of all symbols together.

    Args:
        looked_at: which symbols and what range, in words.
    """
    together: dict[tuple[str, str], list[CheckResult]] = {}
    for result in results:
        asset = RAW_ASSET if result.is_raw else asset_key(result.timeframe)
        together.setdefault((asset, result.check), []).append(result)
    for (asset, check), own in together.items():
        found, judged = sum(result.found for result in own), sum(result.checked for result in own)
        findings = sorted((f for result in own for f in result.findings), key=lambda finding: finding.severity)
        is_error = not findings or findings[0].severity == "error"
        metadata: Metadata = {
            "wrong": dg.MetadataValue.int(found),
            "judged": dg.MetadataValue.int(judged),
            "waiting": dg.MetadataValue.int(sum(result.invalidated for result in own)),
            "looked at": dg.MetadataValue.text(looked_at),
        }
        if findings:
            metadata["findings"] = dg.MetadataValue.md(_findings_table(findings, found))
            said = f"{found:,} of {judged:,} wrong. {findings[0]}"
        else:
            said = f"{judged:,} right: {looked_at}"
        yield dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset),
            check_name=check,
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=said,
            metadata=metadata,
        )


def check_results(
    asked: Collection[dg.AssetCheckKey], found: Iterable[dg.AssetCheckEvaluation]
) -> Iterator[dg.AssetCheckResult]:
    """Evaluations as the results of checks that a step was asked for: one for each of them."""
    by_key = {one.asset_check_key: one for one in found}
    for key in sorted(asked, key=lambda key: key.to_user_string()):
        one = by_key.get(key)
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=one is None or one.passed,
            severity=one.severity if one else dg.AssetCheckSeverity.ERROR,
            description=one.description if one else "There were no bars to look at.",
            metadata=one.metadata if one else {},
        )


def _findings_table(findings: Sequence[Finding], found: int) -> str:
    """The first findings, errors before warnings."""
    rows = [
        [
            f.severity,
            f.symbol,
            f.timeframe,
            f"{f.window_utc:%Y-%m-%d %H:%M}",
            f.problem,
            "" if f.by is None else f"{f.by:.6g}",
        ]
        for f in findings[:SHOWN]
    ]
    table = markdown_table(["severity", "symbol", "timeframe", "window (UTC)", "problem", "by"], rows)
    more = f"\n\n{found - SHOWN:,} more: `agg-pipeline check` tells the first {SHOWN} of each symbol."
    return table + (more if found > SHOWN else "")
