"""The checks as their button in the UI runs them: the last days of every symbol, whenever somebody wants to know."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from agg_pipeline.errors import GatewayError
from agg_pipeline.evaluations import check_specs, evaluations
from agg_pipeline.resources import SupabaseResource


class CheckConfig(dg.Config):
    """What the checks look at."""

    symbols: list[str] | None = Field(default=None, description="Only these symbols. Default: all that have tasks.")
    days: int = Field(default=7, ge=1, le=3660, description="Days before each symbol's cursor.")


def bar_checks() -> dg.AssetChecksDefinition:
    """All checks of all assets as one step, of which any part can be executed."""

    @dg.multi_asset_check(
        name="check_bars",
        specs=check_specs(),
        can_subset=True,
        description="Recomputes the bars of the last days in pandas and looks for gaps, wild prices and lag.",
    )
    def check_bars(
        context: dg.AssetCheckExecutionContext, config: CheckConfig, supabase: SupabaseResource
    ) -> Iterator[dg.AssetCheckResult]:
        try:
            found = {evaluation.asset_check_key: evaluation for evaluation in _evaluated(config, supabase)}
        except GatewayError as exc:
            raise dg.Failure(f"The bars could not be read. {exc}", allow_retries=False) from None
        for key in context.selected_asset_check_keys:
            one = found.get(key)
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=one is None or one.passed,
                severity=one.severity if one else dg.AssetCheckSeverity.ERROR,
                description=one.description if one else "There are no bars to look at.",
                metadata=one.metadata if one else {},
            )

    return check_bars


def _evaluated(config: CheckConfig, supabase: SupabaseResource) -> Iterator[dg.AssetCheckEvaluation]:
    from agg_pipeline.checks import check_bars  # pandas takes longer to load than the definitions

    gateway, results = supabase.gateway, []
    gateway.check_contract()
    tasks = gateway.health(config.symbols)
    symbols = list(dict.fromkeys(task.symbol for task in tasks))
    if unknown := set(config.symbols or ()) - set(symbols):
        raise dg.Failure(f"There are no tasks of {', '.join(sorted(unknown))}.", allow_retries=False)
    for symbol in symbols:
        own = [task for task in tasks if task.symbol == symbol]
        end = max(task.cursor_utc or task.first_window_utc for task in own)
        results += check_bars(gateway, symbol, begin=end - dt.timedelta(days=config.days), end=end, health=own)
    yield from evaluations(results, f"the last {config.days} days of {len(symbols)} symbols")
