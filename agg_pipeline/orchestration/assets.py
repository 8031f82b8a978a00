"""Bars as assets: raw bars that the ingester writes, and one asset per timeframe with the ladder as its lineage.

Ticks report what they wrote to the same assets (close_run), so that each asset's page shows both, ticks and backfills.
"""

import datetime as dt
import time
from collections.abc import Iterator
from functools import partial

import dagster as dg
from pydantic import Field

from agg_pipeline.aggregation.backfill import Filled, Tell, fill
from agg_pipeline.database.models.runs import RunReport
from agg_pipeline.errors import GatewayError
from agg_pipeline.market.timeframes import LADDER, Timeframe
from agg_pipeline.orchestration.backfill_inspection import Inspection, check_recent, inspect_range
from agg_pipeline.orchestration.check_evaluations import (
    RAW_ASSET,
    asset_key,
    check_results,
    check_specs,
    raw_check_specs,
)
from agg_pipeline.orchestration.metadata import Metadata, day_metadata, plan_table, range_metadata, runlog_metadata
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import opened_run, warn
from agg_pipeline.orchestration.tags import PROGRESS
from agg_pipeline.settings import Settings, load_settings

RAW = dg.AssetSpec(
    RAW_ASSET, group_name="bars", description="Raw 1m and 5m bars in data_bars, written by the ingester."
)
BACKFILL_JOB = "agg-backfill"
"""Name of backfills in ops_runlog."""

POOL = "agg_backfill"
"""One backfill at a time: a second one waits in the run queue, where it costs nothing."""

_WEEKDAYS_2100 = "0 21 * * 1-5"  # while every market that rests at weekends is open, or was on the same day


class BackfillConfig(dg.Config):
    """What a backfill works on; the days are the partitions."""

    symbols: list[str] | None = Field(default=None, description="Only these symbols. Default: all that have tasks.")
    dry_run: bool = Field(default=False, description="Change nothing; show as a table what would change.")


def bar_checks() -> dg.AssetChecksDefinition:
    """What can be checked of raw bars; ticks and backfills report it as well."""

    @dg.multi_asset_check(name="raw_bars", specs=raw_check_specs(), can_subset=True)
    def raw_bars(context: dg.AssetCheckExecutionContext, supabase: SupabaseResource) -> Iterator[dg.AssetCheckResult]:
        yield from check_results(context.selected_asset_check_keys, _recent(supabase, None))

    return raw_bars


def bar_assets(settings: Settings) -> list[dg.AssetSpec | dg.AssetsDefinition]:
    """Raw bars, and all derived timeframes as one definition of which any part can be backfilled."""
    specs = [
        dg.AssetSpec(
            asset_key(target),
            deps=[asset_key(source) if source in LADDER else RAW.key],
            group_name="bars",
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
        partitions_def=dg.DailyPartitionsDefinition(settings.first_day.isoformat(), end_offset=1),
        # One run for a range of days: a run a day would spend most of its time on starting.
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        description="Builds and rebuilds the bars of a range of days, and of what is built from them.",
    )
    def backfill_bars(
        context: dg.AssetExecutionContext, config: BackfillConfig, supabase: SupabaseResource
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        if not context.selected_asset_keys:  # the button Execute of the checks
            yield from check_results(context.selected_asset_check_keys, _recent(supabase, config.symbols))
            return
        days = context.partition_time_window
        chosen = [t for t in LADDER if dg.AssetKey(asset_key(t)) in context.selected_asset_keys]
        began = time.monotonic()
        filled = _fill_all(context, config, supabase, chosen, days.start, days.end)
        table = plan_table(filled)
        context.log.info("%s\n\n%s", "What would change:" if config.dry_run else "What was done:", table)
        seconds = time.monotonic() - began
        seen = _inspected(context, supabase, filled, chosen, days.start, days.end)
        for timeframe in () if config.dry_run else chosen:
            _describe(context, timeframe, seen, range_metadata(timeframe, filled, seen.bars, seconds))
            yield dg.MaterializeResult(asset_key=asset_key(timeframe))
        if seen.evaluations:
            for evaluation in seen.evaluations:
                if evaluation.asset_key == RAW.key:
                    context.log_event(evaluation)
            yield from check_results(context.selected_asset_check_keys, seen.evaluations)
        if failed := [one for one in filled if one.failed]:
            raise dg.Failure(
                f"{len(failed)} of {len(filled)} symbols failed: "
                + "; ".join(f"{one.symbol}: {one.failed}" for one in failed[:10]),
                allow_retries=False,
            )

    return [RAW, backfill_bars]


def _freshness(timeframe: Timeframe) -> dg.FreshnessPolicy:
    """Dagster knows no market calendar. Hours that all markets have in common on weekdays come nearest to one."""
    if timeframe == Timeframe.D1:
        return dg.FreshnessPolicy.time_window(fail_window=dt.timedelta(days=4))  # a weekend, and a holiday beside it
    return dg.FreshnessPolicy.cron(deadline_cron=_WEEKDAYS_2100, lower_bound_delta=dt.timedelta(hours=12))


def _fill_all(
    context: dg.AssetExecutionContext, config: BackfillConfig, supabase: SupabaseResource,
    timeframes: list[Timeframe], begin: dt.datetime, end: dt.datetime,
) -> list[Filled]:  # fmt: skip
    """One symbol after the other; a symbol's failure is its own."""
    gateway, settings = supabase.gateway, load_settings()
    filled: list[Filled] = []
    try:
        gateway.check_contract()
        with opened_run(
            context.op_execution_context,
            supabase,
            job=BACKFILL_JOB,
            trigger="manual",
            report=partial(RunReport.broken, context.run.run_id),
        ):
            symbols = config.symbols or list(dict.fromkeys(task.symbol for task in gateway.health()))
            progress = Progress(context, begin, end, len(symbols))
            for n, symbol in enumerate(symbols):
                try:
                    one = fill(
                        gateway, symbol, timeframes, begin, end, settings=settings, owner=context.run.run_id,
                        dry_run=config.dry_run, tell=progress.of(n, symbol),
                    )  # fmt: skip
                except GatewayError as exc:
                    one = Filled(symbol=symbol, failed=str(exc))
                filled.append(one)
                context.log.info("%s (%d of %d) is done: %s", symbol, n + 1, len(symbols), one.failed or "all is well")
            progress.done()
    except GatewayError as exc:
        raise dg.Failure(f"The backfill did not begin. {exc}", allow_retries=False) from None
    try:
        gateway.close_run(
            context.run.run_id,
            success=not any(one.failed for one in filled),
            stats={"symbols": len(symbols), "failed": [one.symbol for one in filled if one.failed]},
        )
    except GatewayError as exc:
        warn(context.log, f"The bars stand, but the run could not be closed in ops_runlog. {exc}")
    return filled


def _recent(supabase: SupabaseResource, symbols: list[str] | None) -> list[dg.AssetCheckEvaluation]:
    try:
        return check_recent(supabase.gateway, symbols)
    except (GatewayError, ValueError) as exc:
        raise dg.Failure(f"Nothing was checked: {exc}", allow_retries=False) from None


def _inspected(
    context: dg.AssetExecutionContext, supabase: SupabaseResource, filled: list[Filled],
    timeframes: list[Timeframe], begin: dt.datetime, end: dt.datetime,
) -> Inspection:  # fmt: skip
    """Whatever goes wrong in looking at bars, the bars stand, and the backfill is no failure."""
    symbols = [one.symbol for one in filled if not one.failed]
    if not symbols:
        return Inspection()
    try:
        return inspect_range(supabase.gateway, symbols, timeframes, begin, end)
    except Exception as exc:
        warn(context.log, f"The bars stand, but could not be looked at. {exc}")
        return Inspection()


def _describe(context: dg.AssetExecutionContext, timeframe: Timeframe, seen: Inspection, of_range: Metadata) -> None:
    """Figures of its own for each day; those of the whole range, which are large, only for the last one."""
    asset, (*_, last) = asset_key(timeframe), context.partition_keys
    drawn = seen.pictures.get(timeframe)
    picture: Metadata = {"candles": dg.MetadataValue.md(drawn)} if drawn else {}
    of_range = picture | of_range | runlog_metadata(context.run.run_id)
    context.add_asset_metadata(of_range, asset, partition_key=last)
    for day in seen.days:
        if day.timeframe == timeframe:
            context.add_asset_metadata(day_metadata(day), asset, partition_key=day.day.isoformat())


class Progress:
    """How far a backfill is, as a tag of its run: the run list shows it without opening a log."""

    def __init__(self, context: dg.AssetExecutionContext, begin: dt.datetime, end: dt.datetime, symbols: int) -> None:
        self._context, self._begin, self._length, self._symbols = context, begin, end - begin, symbols
        self._shown = -1

    def of(self, n: int, symbol: str) -> Tell:
        """Reports for the n-th symbol."""

        def tell(reached: dt.datetime) -> None:
            part = min(1.0, max(0.0, (reached - self._begin) / self._length))
            self._context.log.debug("%s: up to %s", symbol, reached.isoformat())
            self._show(int(100 * (n + part) / self._symbols))

        return tell

    def done(self) -> None:
        self._show(100)

    def _show(self, percent: int) -> None:
        if percent > self._shown:
            self._shown = percent
            self._context.instance.add_run_tags(self._context.run.run_id, {PROGRESS: f"{percent} %"})
