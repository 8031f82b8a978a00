"""Every run has the tags of its environment and kind, whoever launches it, and without a job of ours too."""

import dagster as dg
import psycopg
import pytest

from agg_pipeline.definitions import build_definitions
from agg_pipeline.orchestration.asset_keys import bars_key


def tags_of_the_newest(instance: dg.DagsterInstance) -> tuple[str | None, str | None]:
    (run,) = instance.get_runs(limit=1)
    return run.tags.get("agg/environment"), run.tags.get("agg/kind")


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    ("job", "kind"), [("agg_master", "tick"), ("retention", "retention"), ("calendars", "calendars")]
)
def test_jobs(defs: dg.Definitions, instance: dg.DagsterInstance, job: str, kind: str) -> None:
    defs.resolve_job_def(job).execute_in_process(instance=instance)
    assert tags_of_the_newest(instance) == ("prod", kind)


def test_assets_and_checks_that_the_ui_launches(
    defs: dg.Definitions, instance: dg.DagsterInstance, clean: psycopg.Connection
) -> None:
    """Dagster's own asset job carries no tag of ours: the op sets them before it does anything else."""
    job = defs.resolve_implicit_global_asset_job_def()
    job.execute_in_process(instance=instance, asset_selection=[bars_key("5m")], partition_key="2026-01-05")
    assert tags_of_the_newest(instance) == ("prod", "backfill")
    for check in ("5m", "raw"):
        key = dg.AssetCheckKey(bars_key(check), "prices_sane")
        job.get_subset(asset_check_selection={key}, asset_selection=set()).execute_in_process(instance=instance)
        assert tags_of_the_newest(instance) == ("prod", "checks")


@pytest.mark.parametrize(("prefix", "expected"), [(None, "prod/bars_5m"), ("", "bars_5m"), ("eu", "eu/bars_5m")])
def test_keys_of_assets_begin_with_the_environment_or_what_a_setting_says(
    settings_of_the_stack: pytest.MonkeyPatch, prefix: str | None, expected: str
) -> None:
    if prefix is not None:
        settings_of_the_stack.setenv("ASSET_KEY_PREFIX", prefix)
    keys = {key.to_user_string() for key in build_definitions().resolve_all_asset_keys()}
    assert expected in keys
    assert len({key.rpartition("/")[0] for key in keys}) == 1, "raw bars too"
