"""AGG_EXECUTOR: what each choice needs, and that what deploy/ says is what Dagster takes."""

from pathlib import Path

import dagster as dg
import pytest
import yaml

from agg_pipeline.orchestration.executors import executor_for, io_manager_for
from agg_pipeline.orchestration.jobs import build_job
from agg_pipeline.orchestration.resources import resources_for
from agg_pipeline.settings import SettingsError, load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.parametrize(
    ("name", "executor", "module"),
    [
        ("in_process", "in_process", "dagster"),
        ("multiprocess", "multiprocess", "dagster"),
        ("celery", "celery", "dagster_celery"),
        ("k8s", "k8s", "dagster_k8s"),
    ],
)
def test_the_job_has_the_executor_that_was_chosen(
    name: str, executor: str, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip(module, reason=f"the extra [{name}] is not installed")
    monkeypatch.setenv("AGG_EXECUTOR", name)
    monkeypatch.setenv("AGG_SHARED_DIR", str(tmp_path))
    settings = load_settings()
    job = build_job(settings, resources_for(settings.env_name))
    assert job.executor_def.name == executor


@pytest.mark.parametrize("name", ["celery", "k8s"])
def test_workers_elsewhere_need_a_place_to_share(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGG_EXECUTOR", name)
    monkeypatch.delenv("AGG_SHARED_DIR", raising=False)
    with pytest.raises(SettingsError, match=f"AGG_EXECUTOR={name} needs AGG_SHARED_DIR"):
        io_manager_for(load_settings())


@pytest.mark.parametrize(("name", "module"), [("celery", "dagster_celery"), ("k8s", "dagster_k8s")])
def test_a_missing_extra_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setenv("AGG_EXECUTOR", name)
    with pytest.raises(SettingsError, match=rf"needs {module}: pip install 'agg-pipeline\[{name}\]'"):
        executor_for(load_settings())


def test_the_values_for_kubernetes_are_what_the_run_launcher_takes() -> None:
    """The Helm chart writes these keys, in snake case, into dagster.yaml."""
    launcher = pytest.importorskip("dagster_k8s", reason="the extra [k8s] is not installed").K8sRunLauncher
    values = yaml.safe_load((DEPLOY / "k8s" / "executor-values.yaml").read_text())["runLauncher"]
    assert values["type"] == "K8sRunLauncher"
    given = values["config"]["k8sRunLauncher"]
    config = {
        "job_image": "agg-pipeline",
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "dagster-instance",
        "service_account_name": "dagster",
        "env_secrets": [secret["name"] for secret in given["envSecrets"]],
        "env_vars": given["envVars"],
        "volumes": given["volumes"],
        "volume_mounts": given["volumeMounts"],
        "run_k8s_config": {"container_config": given["runK8sConfig"]["containerConfig"]},
    }
    schema = {name: dg.Field(field.config_type, is_required=False) for name, field in launcher.config_type().items()}

    @dg.op(config_schema=schema)
    def takes(context: dg.OpExecutionContext) -> None:
        assert context.op_config["env_secrets"] == ["agg-pipeline"]

    @dg.job
    def checked() -> None:
        takes()

    assert checked.execute_in_process(run_config={"ops": {"takes": {"config": config}}}).success
