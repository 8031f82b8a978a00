"""Bars as assets: the raw bars that the ingester writes, and one asset per derived timeframe, with their lineage.

Ticks report their materializations to the same assets (close_run), so that the page of an asset shows ticks and
backfills.
"""

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from functools import partial

import dagster as dg
from pydantic import Field

from agg_pipeline.aggregation.backfill import BackfillResult, backfill_symbol
from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.errors import GatewayError
from agg_pipeline.market.names import SymbolError, check_symbol
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.orchestration.asset_keys import RAW, backfill_pool, bars_key
from agg_pipeline.orchestration.backfill_inspection import Inspection, check_recent, inspect_range
from agg_pipeline.orchestration.calendar_refresh import fill_or_warn
from agg_pipeline.orchestration.check_evaluations import (
    carried_over,
    check_results,
    check_specs,
    raw_check_specs,
)
from agg_pipeline.orchestration.days import FIRST_DAY
from agg_pipeline.orchestration.materializations import day_materializations
from agg_pipeline.orchestration.metadata import Metadata, day_metadata, plan_table, range_metadata, runlog_metadata
from agg_pipeline.orchestration.progress import Progress
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import BACKFILL_JOB, opened_run, warn
from agg_pipeline.orchestration.run_tags import complete_tags
from agg_pipeline.settings import load_settings

GROUP = "bars"

_WEEKDAYS_2100 = "0 21 * * 1-5"  # by then every market that closes at weekends has traded that day


class BackfillConfig(dg.Config):
    """Scope of a backfill; its days are the selected partitions."""

    symbols: list[str] | None = Field(default=None, description="Only these symbols. Default: all that have tasks.")
    dry_run: bool = Field(default=False, description="Change nothing; show as a table what would change.")


def bar_checks() -> dg.AssetChecksDefinition:
    """Checks of raw bars, which ticks and backfills report as well."""

    @dg.multi_asset_check(name="raw_bars", specs=raw_check_specs(), can_subset=True)
    def raw_bars(context: dg.AssetCheckExecutionContext, supabase: SupabaseResource) -> Iterator[dg.AssetCheckResult]:
        complete_tags(context.instance, context.run, load_settings(), "checks")
        yield from check_results(context.selected_asset_check_keys, _recent(supabase, None))

    return raw_bars


def bar_assets() -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """The raw bars, and the derived timeframes as one definition of which any subset can be backfilled."""
    raw = dg.AssetSpec(
        bars_key(RAW), group_name=GROUP, description="Raw 1m and 5m bars in data_bars, written by the ingester."
    )
    specs = [
        dg.AssetSpec(
            bars_key(target),
            deps=[bars_key(source if source in LADDER else RAW)],
            group_name=GROUP,
            description=f"Live {target.value} bars in derived_data_bars, built from {source.value} bars.",
            skippable=True,
            freshness_policy=_freshness(target),
        )
        for target, source in LADDER.items()
    ]

    @dg.multi_asset(
        name="backfill_bars",
        specs=specs,
        check_specs=check_specs(),
        can_subset=True,
        partitions_def=dg.DailyPartitionsDefinition(FIRST_DAY.isoformat(), end_offset=1),
        # One run for a range of days: a run takes seconds to start, a day of bars less than one.
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=backfill_pool(),
        description="Builds and rebuilds the bars of a range of days, and the bars that are built from them.",
    )
    def backfill_bars(
        context: dg.AssetExecutionContext, config: BackfillConfig, supabase: SupabaseResource
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        is_backfill = bool(context.selected_asset_keys)
        complete_tags(context.instance, context.run, load_settings(), "backfill" if is_backfill else "checks")
        if not is_backfill:  # only checks are selected, by the button Execute
            yield from check_results(context.selected_asset_check_keys, _recent(supabase, config.symbols))
            return
        days = context.partition_time_window
        chosen = [t for t in LADDER if bars_key(t) in context.selected_asset_keys]
        began = time.monotonic()
        results = _backfill_all(context, config, supabase, chosen, days.start, days.end)
        table = plan_table(results)
        context.log.info("%s\n\n%s", "What would change:" if config.dry_run else "What was done:", table)
        seconds = time.monotonic() - began
        inspection = _inspect(context, supabase, results, chosen, days.start, days.end)
        for timeframe in () if config.dry_run else chosen:
            if _is_empty(timeframe, results, inspection):  # a day of a timeframe is an event: 18,000 in ten years
                context.log.info("There are no %s bars in these days, and none were built.", timeframe)
                continue
            of_range = range_metadata(timeframe, results, inspection.bars or (), seconds)
            _add_metadata(context, timeframe, inspection, of_range)
            yield dg.MaterializeResult(asset_key=bars_key(timeframe))
        if not config.dry_run:
            _report_other_days(context, supabase, chosen)
        if inspection.evaluations:
            for evaluation in inspection.evaluations:
                if evaluation.asset_key == bars_key(RAW):
                    context.log_event(evaluation)
            yield from check_results(context.selected_asset_check_keys, inspection.evaluations)
        if failed := [one for one in results if one.failed]:
            raise dg.Failure(
                f"{len(failed)} of {len(results)} symbols failed: "
                + "; ".join(f"{one.symbol}: {one.failed}" for one in failed[:10]),
                allow_retries=False,
            )

    return [raw, backfill_bars]


def _freshness(timeframe: Timeframe) -> dg.FreshnessPolicy:
    """Freshness of a timeframe. Dagster has no market calendars, so it is checked when all markets have traded."""
    if timeframe == Timeframe.D1:
        return dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=4))  # a weekend and an adjacent holiday
    return dg.FreshnessPolicy.cron(deadline_cron=_WEEKDAYS_2100, lower_bound_delta=dt.timedelta(hours=12))


def _backfill_all(
    context: dg.AssetExecutionContext, config: BackfillConfig, supabase: SupabaseResource,
    timeframes: list[Timeframe], begin: dt.datetime, end: dt.datetime,
) -> list[BackfillResult]:  # fmt: skip
    """Backfill one symbol after the other; one that fails does not stop the others."""
    gateway, settings = supabase.gateway, load_settings()
    results: list[BackfillResult] = []
    try:
        gateway.check_contract()
        with opened_run(
            context.op_execution_context,
            supabase,
            job=BACKFILL_JOB,
            trigger="manual",
            report=partial(RunReport.broken, context.run.run_id),
        ):
            if not config.dry_run:
                fill_or_warn(context.log, gateway)
            symbols = config.symbols or list(dict.fromkeys(task.symbol for task in gateway.health()))
            progress = Progress(context, begin, end, len(symbols))
            for n, symbol in enumerate(symbols):
                try:
                    if config.symbols:  # those of the database are what they are
                        check_symbol(symbol)
                    result = backfill_symbol(
                        gateway, symbol, timeframes, begin, end, settings=settings, owner=context.run.run_id,
                        dry_run=config.dry_run, on_progress=progress.of_symbol(n, symbol),
                    )  # fmt: skip
                except (GatewayError, SymbolError) as exc:
                    result = BackfillResult(symbol=symbol, failed=str(exc))
                results.append(result)
                outcome = f"failed: {result.failed}" if result.failed else "done"
                context.log.info("%s (%d of %d) %s", symbol, n + 1, len(symbols), outcome)
            progress.done()
    except GatewayError as exc:
        raise dg.Failure(f"The backfill did not start. {exc}", allow_retries=False) from None
    try:
        gateway.close_run(
            context.run.run_id,
            success=not any(one.failed for one in results),
            stats={"symbols": len(symbols), "failed": [one.symbol for one in results if one.failed]},
        )
    except GatewayError as exc:
        warn(context.log, f"The bars are stored, but the run could not be closed in ops_runlog. {exc}")
    return results


def _recent(supabase: SupabaseResource, symbols: list[str] | None) -> list[dg.AssetCheckEvaluation]:
    try:
        return check_recent(supabase.gateway, symbols)
    except (GatewayError, ValueError) as exc:
        raise dg.Failure(f"Nothing was checked: {exc}", allow_retries=False) from None


def _inspect(
    context: dg.AssetExecutionContext, supabase: SupabaseResource, results: list[BackfillResult],
    timeframes: list[Timeframe], begin: dt.datetime, end: dt.datetime,
) -> Inspection:  # fmt: skip
    """Inspect the range. The bars are stored, so an error while reading them must not fail the backfill."""
    symbols = [one.symbol for one in results if not one.failed]
    if not symbols:
        return Inspection()
    try:
        return inspect_range(supabase.gateway, symbols, timeframes, begin, end)
    except Exception as exc:
        warn(context.log, f"The bars are stored, but could not be read for the checks. {exc}")
        return Inspection()


def _report_other_days(
    context: dg.AssetExecutionContext, supabase: SupabaseResource, timeframes: Sequence[Timeframe]
) -> None:
    """Report what was built besides the selected days: windows before them, and timeframes above."""
    days = {dt.date.fromisoformat(key) for key in context.partition_keys}
    try:
        reported = {(timeframe.value, day) for timeframe in timeframes for day in days}
        while (touched := supabase.gateway.touched_days()).days:  # a call gives a thousand
            events = list(day_materializations(touched, reported, context.run.run_id))
            others = {event.asset_key for event in events} - {bars_key(timeframe) for timeframe in timeframes}
            for event in [*events, *carried_over(context.instance, others, [])]:
                context.log_event(event)
            supabase.gateway.forget_touched_days(touched)
    except GatewayError as exc:
        warn(context.log, f"The bars are stored; the next tick reports the other days that changed. {exc}")


def _is_empty(timeframe: Timeframe, results: Sequence[BackfillResult], inspection: Inspection) -> bool:
    """Whether the range has no bars of the timeframe and had none before; False if they could not be counted."""
    if inspection.bars is None or any(one.timeframe == timeframe for one in inspection.bars):
        return False
    levels = [one.levels[timeframe.value] for one in results if timeframe.value in one.levels]
    return not any(level.written or level.retired for level in levels)


def _add_metadata(
    context: dg.AssetExecutionContext, timeframe: Timeframe, inspection: Inspection, of_range: Metadata
) -> None:
    """Add to each day its own metadata, and to the last one that of the range, which is large."""
    asset, (*_, last) = bars_key(timeframe), context.partition_keys
    drawn = inspection.charts.get(timeframe)
    chart: Metadata = {"candles": dg.MetadataValue.md(drawn)} if drawn else {}
    of_range = chart | of_range | runlog_metadata(context.run.run_id)
    context.add_asset_metadata(of_range, asset, partition_key=last)
    for day in inspection.days:
        if day.timeframe == timeframe:
            context.add_asset_metadata(day_metadata(day), asset, partition_key=day.day.isoformat())
