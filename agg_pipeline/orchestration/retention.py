"""Deletes runs older than RETENTION_DAYS. Dagster keeps them for ever, and 288 ticks a day write 100,000 event rows."""

import datetime as dt

import dagster as dg
from pydantic import Field

from agg_pipeline.errors import GatewayError
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.resources import SupabaseResource
from agg_pipeline.settings import load_settings

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_BATCH = 100


class RetentionConfig(dg.Config):
    """Limits of one run of the job; the next run deletes the rest."""

    days: int | None = Field(default=None, ge=1, description="Age of the runs to delete. Default: RETENTION_DAYS.")
    max_runs: int = Field(default=5000, ge=1, description="Most runs to delete, oldest first.")


@dg.op
def delete_expired(context: dg.OpExecutionContext, config: RetentionConfig, supabase: SupabaseResource) -> None:
    """Delete old ended runs of this environment with their event logs, and their rows in ops_runlog."""
    settings = load_settings()
    days = config.days or settings.retention_days
    old = dg.RunsFilter(
        statuses=_ENDED,
        tags={tags.ENVIRONMENT: supabase.environment.lower()},
        updated_before=dt.datetime.now(dt.UTC) - dt.timedelta(days=days),
    )
    deleted = 0
    while deleted < config.max_runs:
        records = context.instance.get_run_records(old, limit=min(_BATCH, config.max_runs - deleted), ascending=True)
        if not records:
            break
        for record in records:
            context.instance.delete_run(record.dagster_run.run_id)
        deleted += len(records)
        context.log.info("%d runs deleted, up to %s", deleted, records[-1].create_timestamp)
    try:
        if made := supabase.gateway.partitions_ahead():
            context.log.info("Partitions created for the next months: %s", ", ".join(made))
        rows = supabase.gateway.expire_runs(
            job=settings.job_name, environment=supabase.environment, keep_days=days, limit=config.max_runs
        )
    except GatewayError as exc:
        raise dg.Failure(f"{deleted} runs of Dagster were deleted, but no row of ops_runlog. {exc}") from None
    context.add_output_metadata(
        {"runs_deleted": deleted, "runlog_rows_deleted": rows.deleted, "runlog_rows_abandoned": rows.abandoned}
    )


@dg.graph
def delete_old_runs() -> None:
    """Graph of the job retention: one step."""
    delete_expired()
