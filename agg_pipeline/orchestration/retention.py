"""Deletes what is older than RETENTION_DAYS: runs with their events, evaluations of checks, rows of ops_runlog.

Dagster keeps them for ever, and 288 ticks a day write 100,000 event rows.
"""

import datetime as dt
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration.asset_keys import all_keys
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.orchestration.run_closing import BACKFILL_JOB
from agg_pipeline.orchestration.run_tags import environment_tags
from agg_pipeline.orchestration.storage_rows import delete_backfills, delete_evaluations
from agg_pipeline.settings import load_settings

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_BATCH = 100
_CODE_LOCATION = ".dagster/repository"


class RetentionConfig(dg.Config):
    """Limits of one run of the job; the next run deletes the rest."""

    days: int | None = Field(default=None, ge=1, description="Age of the runs to delete. Default: RETENTION_DAYS.")
    max_runs: int = Field(default=5000, ge=1, description="Most runs to delete, oldest first.")


@dg.op
def delete_expired(context: dg.OpExecutionContext, config: RetentionConfig, supabase: SupabaseResource) -> None:
    """Delete old ended runs of this environment with all that belongs to them, and their rows in ops_runlog."""
    settings = load_settings()
    days = config.days or settings.retention_days
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
    deleted = 0
    for wanted in _runs_of(context):
        deleted += _delete_runs(context, wanted, before, config.max_runs - deleted)
    assets = all_keys()
    evaluations = delete_evaluations(context.instance, assets, before)
    backfills = delete_backfills(context.instance, assets, before)
    try:
        if made := supabase.gateway.partitions_ahead():
            context.log.info("Partitions created for the next months: %s", ", ".join(made))
        expired = [
            supabase.gateway.expire_runs(
                job=job, environment=supabase.environment, keep_days=days, limit=config.max_runs
            )
            for job in (settings.job_name, BACKFILL_JOB)
        ]
    except GatewayError as exc:
        raise dg.Failure(f"{deleted} runs of Dagster were deleted, but no row of ops_runlog. {exc}") from None
    context.add_output_metadata(
        {
            "runs_deleted": deleted,
            "evaluations_deleted": evaluations,
            "backfills_deleted": backfills,
            "runlog_rows_deleted": sum(rows.deleted for rows in expired),
            "runlog_rows_abandoned": sum(rows.abandoned for rows in expired),
        }
    )


def _runs_of(context: dg.OpExecutionContext) -> Iterator[dict[str, str]]:
    """Tags that the runs of this environment have: those of a run that began to work, and Dagster's of any other."""
    yield environment_tags(load_settings())
    if code_location := context.run.tags.get(_CODE_LOCATION):
        yield {_CODE_LOCATION: code_location}


def _delete_runs(context: dg.OpExecutionContext, wanted: dict[str, str], before: dt.datetime, most: int) -> int:
    """Delete at most so many ended runs with these tags, oldest first."""
    old, deleted = dg.RunsFilter(statuses=_ENDED, tags=wanted, updated_before=before), 0
    while deleted < most:
        records = context.instance.get_run_records(old, limit=min(_BATCH, most - deleted), ascending=True)
        if not records:
            break
        for record in records:
            context.instance.delete_run(record.dagster_run.run_id)
        deleted += len(records)
        context.log.info("%d runs deleted, up to %s", deleted, records[-1].create_timestamp)
    return deleted


@dg.graph
def delete_old_runs() -> None:
    """Graph of the job retention: one step."""
    delete_expired()
