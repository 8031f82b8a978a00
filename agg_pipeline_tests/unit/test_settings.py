"""Settings: names and defaults of the variables, and messages for values that are not valid."""

import os
from pathlib import Path

import pytest

from agg_pipeline.settings import Environment, SettingsError, load_settings, variable_for, variables


def test_the_defaults_are_those_of_the_predecessor(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENV_NAME", "MAX_TASKS_PER_RUN", "MAX_WINDOWS_PER_TASK", "MAX_WINDOWS_PER_RUN", "TASKS_PER_STEP"):
        monkeypatch.delenv(name, raising=False)
    settings = load_settings()
    assert (settings.env_name, settings.job_name) == (Environment.DEV, "agg-master")
    assert (settings.max_tasks_per_run, settings.max_windows_per_task, settings.tasks_per_step) == (50_000, 100, None)
    assert settings.max_windows_per_run == 20_000
    assert (settings.running_stale_seconds, settings.auto_disable_hard_fails) == (900, 3)
    assert settings.agg_derivation_version == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENV_NAME", "production"),
        ("MAX_TASKS_PER_RUN", "NaN"),
        ("MAX_TASKS_PER_RUN", "0"),
        ("MAX_WINDOWS_PER_TASK", "many"),
        ("RUNNING_STALE_SECONDS", "5"),
        ("AUTO_DISABLE_HARD_FAILS", "-1"),
        ("AGG_EXECUTOR", "cloud"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_an_invalid_value_raises_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"(?i){name}='{value}'"):
        load_settings()


def test_case_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV_NAME", "pRoD")
    monkeypatch.setenv("LOG_LEVEL", "warn")
    assert load_settings().env_name is Environment.PROD


def test_a_variable_of_the_environment_wins_over_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "plain")
    assert variable_for("SUPABASE_URL", Environment.PROD) == "SUPABASE_URL"
    monkeypatch.setenv("SUPABASE_URL_PROD", "")
    assert variable_for("SUPABASE_URL", Environment.PROD) == "SUPABASE_URL"
    monkeypatch.setenv("SUPABASE_URL_PROD", "own")
    assert variable_for("SUPABASE_URL", Environment.PROD) == "SUPABASE_URL_PROD"
    assert variable_for("SUPABASE_URL", Environment.DEV) == "SUPABASE_URL"


def test_variables_of_the_process_win_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "MAX_TASKS_PER_RUN=7\nJOB_NAME=from-file\nSUPABASE_URL_PROD='of prod'\nexport TASKS_PER_STEP=3\nEMPTY\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agg_pipeline.settings.ENV_FILE", ".env")
    monkeypatch.setenv("JOB_NAME", "from-process")
    before = dict(os.environ)
    settings = load_settings()
    assert (settings.max_tasks_per_run, settings.tasks_per_step, settings.job_name) == (7, 3, "from-process")
    assert variable_for("SUPABASE_URL", Environment.PROD) == "SUPABASE_URL_PROD"
    assert variables()["SUPABASE_URL_PROD"] == "of prod"
    assert "EMPTY" not in variables()
    assert dict(os.environ) == before, "reading a file changes nothing for others"


def test_variables_cannot_be_written() -> None:
    with pytest.raises(TypeError):
        variables()["ENV_NAME"] = "prod"  # type: ignore[index]
