"""Old runs go: Dagster keeps every run with its event log for ever, which for 288 ticks a day is 100,000 rows a day."""

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
    """How much one run of the job may delete; what is left goes the next day."""

    days: int | None = Field(default=None, ge=1, description="Age from which on runs go. Default: RETENTION_DAYS.")
    max_runs: int = Field(default=5000, ge=1, description="Runs to delete at most, the oldest first.")


@dg.op
def delete_expired(context: dg.OpExecutionContext, config: RetentionConfig, supabase: SupabaseResource) -> None:
    """Delete ended runs of this environment by age, with their event logs, and the rows of ops_runlog likewise."""
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
            context.log.info("Partitions made for the months to come: %s", ", ".join(made))
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
    """One step."""
    delete_expired()
