"""Results of checks as asset check evaluations, which Dagster shows on the page of each asset.

Ticks, backfills and the button *Execute* report under the same names. An evaluation covers all symbols that were
checked and names them; the newest one gives the check its colour, older ones stay in its history.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import dagster as dg

from agg_pipeline.market.number_text import difference
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.orchestration.asset_keys import RAW, bars_key
from agg_pipeline.orchestration.metadata import Metadata, markdown_table
from agg_pipeline.quality.check_results import CheckResult, Finding

MAX_ROWS = 20  # findings in the table of an evaluation

_DESCRIPTIONS = {
    "matches_recomputation": "Every bar equals its recomputation in pandas from the raw bars.",
    "no_gaps": "No source bar that the trading calendar expects is missing. A sparse symbol may be quiet.",
    "parents_agree": "Prices, volume and trades agree with the bars that it is built from.",
    "prices_sane": "Prices are finite and consistent, above 0, and do not jump.",
    "coverage": "At most 5 % of the source bars that are expected are missing.",
    "health": "No task is failed, stalled or disabled, and no feed is silent while its market is open.",
    "lag": "No task is more than three windows behind its source.",
}

_RAW_DESCRIPTIONS = {
    "prices_sane": "Prices are finite, consistent and above 0, and do not jump; other bars count as missing.",
    "right_table": "Raw bars are in data_bars under their asset's base timeframe, all others in derived_data_bars.",
    "no_duplicates": "No bar is stored twice.",
}


def check_specs() -> list[dg.AssetCheckSpec]:
    """Specs of the checks of derived bars, by the names that evaluations use."""
    checks = []
    for timeframe, source in LADDER.items():
        names = [name for name in _DESCRIPTIONS if name != "parents_agree" or source != Timeframe.M1]
        checks += [(bars_key(timeframe), name) for name in names]
    return [dg.AssetCheckSpec(name, asset=asset, description=_DESCRIPTIONS[name]) for asset, name in checks]


def raw_check_specs() -> list[dg.AssetCheckSpec]:
    """Specs of the checks of raw bars."""
    return [dg.AssetCheckSpec(name, asset=bars_key(RAW), description=text) for name, text in _RAW_DESCRIPTIONS.items()]


def evaluations(results: Iterable[CheckResult], scope: str) -> Iterator[dg.AssetCheckEvaluation]:
    """One evaluation per asset and check, over all symbols.

    Args:
        scope: the symbols and the range that were checked, in words.
    """
    together: dict[tuple[dg.AssetKey, str], list[CheckResult]] = {}
    for result in results:
        asset = bars_key(RAW if result.is_raw else result.timeframe)
        together.setdefault((asset, result.check), []).append(result)
    for (asset, check), own in together.items():
        found, checked = sum(result.found for result in own), sum(result.checked for result in own)
        findings = sorted((f for result in own for f in result.findings), key=lambda finding: finding.severity)
        is_error = not findings or findings[0].severity == "error"
        metadata: Metadata = {
            "wrong": dg.MetadataValue.int(found),
            "judged": dg.MetadataValue.int(checked),
            "waiting": dg.MetadataValue.int(sum(result.invalidated for result in own)),
            "looked at": dg.MetadataValue.text(scope),
        }
        if findings:
            metadata["findings"] = dg.MetadataValue.md(_findings_table(findings, found))
            description = f"{found:,} of {checked:,} wrong. {findings[0]}"
        else:
            description = f"{checked:,} right: {scope}"
        yield dg.AssetCheckEvaluation(
            asset_key=asset,
            check_name=check,
            passed=not found,
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=description,
            metadata=metadata,
        )


def check_results(
    selected: Collection[dg.AssetCheckKey], found: Iterable[dg.AssetCheckEvaluation]
) -> Iterator[dg.AssetCheckResult]:
    """One result for each check that a step has to report: its evaluation, or that there were no bars."""
    by_key = {one.asset_check_key: one for one in found}
    for key in sorted(selected, key=lambda key: key.to_user_string()):
        one = by_key.get(key)
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=one is None or one.passed,
            severity=one.severity if one else dg.AssetCheckSeverity.ERROR,
            description=one.description if one else "There were no bars to check.",
            metadata=one.metadata if one else {},
        )


def carried_over(
    instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], evaluated: Collection[dg.AssetCheckKey]
) -> Iterator[dg.AssetCheckEvaluation]:
    """The newest evaluation of each check of these assets that was not evaluated now, once more.

    Dagster shows a check as not evaluated if a run materializes its asset and does not evaluate it too.
    """
    keys = [spec.key for spec in check_specs() if spec.asset_key in assets and spec.key not in evaluated]
    for record in instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).values():
        one = record.evaluation
        if isinstance(one, dg.AssetCheckEvaluation):  # not one that a run beside this one is about to make
            yield dg.AssetCheckEvaluation(
                asset_key=one.asset_key,
                check_name=one.check_name,
                passed=one.passed,
                severity=one.severity,
                description=one.description,
                metadata=one.metadata,
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
            "" if f.by is None else difference(f.by),
        ]
        for f in findings[:MAX_ROWS]
    ]
    table = markdown_table(["severity", "symbol", "timeframe", "window (UTC)", "problem", "by"], rows)
    more = f"\n\n{found - MAX_ROWS:,} more: `agg-pipeline check` lists the first {MAX_ROWS} of each symbol."
    return table + (more if found > MAX_ROWS else "")
