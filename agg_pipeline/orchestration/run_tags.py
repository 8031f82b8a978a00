"""The tags that every run of ours has, whoever launches it."""

from typing import Literal

import dagster as dg

from agg_pipeline.orchestration import tags
from agg_pipeline.settings import Settings

Kind = Literal["tick", "backfill", "checks", "retention", "calendars"]


def environment_tags(settings: Settings) -> dict[str, str]:
    """Tags by which sensors and retention find the runs of an environment."""
    return {tags.ENVIRONMENT: settings.env_name.value.lower()}


def run_tags(settings: Settings, kind: Kind) -> dict[str, str]:
    """Tags of every run of an environment, whoever launches it."""
    return environment_tags(settings) | {tags.KIND: kind}


def complete_tags(instance: dg.DagsterInstance, run: dg.DagsterRun, settings: Settings, kind: Kind) -> None:
    """Give a run the tags that its launcher left out: Dagster's UI launches assets without the tags of any job."""
    if missing := {key: value for key, value in run_tags(settings, kind).items() if key not in run.tags}:
        instance.add_run_tags(run.run_id, missing)
