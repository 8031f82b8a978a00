"""Settings of an operator: environment, limits of a run, names of the variables that hold secrets.

Read from environment variables, with the names and defaults of the predecessor's workers. Nothing is read at import,
and nothing is written to the environment: child processes get their variables when they are started.
"""

import os
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

ENV_FILE = ".env"
"""File with variables, in the working directory; `.env.example` documents them."""


class SettingsError(ValueError):
    """A setting is missing or not valid. The message names the variable and says what it should be."""


class Environment(StrEnum):
    """Environment of a code location. DEV and TEST serve assets with test_active, STAGE and PROD those with active."""

    DEV = "DEV"
    TEST = "TEST"
    STAGE = "STAGE"
    PROD = "PROD"


class Settings(BaseModel):
    """Settings of one environment; each field is read from the environment variable of its name in upper case."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    env_name: Environment = Field(Environment.DEV, description="dev, test, stage or prod.")
    asset_key_prefix: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_]*$",
        description="First part of the keys of assets, which one Dagster instance may hold for several environments. "
        "Default: the environment, as in prod/bars_5m. Empty: none.",
    )
    job_name: str = Field("agg-master", min_length=1, description="Name of the job in ops_runlog.")
    max_tasks_per_run: int = Field(
        50_000, ge=1, le=100_000, description="Most tasks of one tick; so many take half a minute."
    )
    max_windows_per_task: int = Field(
        100,
        ge=1,
        le=100_000,
        description="Most windows that one tick builds per task, if many share MAX_WINDOWS_PER_RUN.",
    )
    max_windows_per_run: int = Field(
        20_000, ge=1, le=10_000_000, description="Windows of a tick that its tasks share, where that is more for each."
    )
    running_stale_seconds: int = Field(900, ge=60, le=86_400, description="Length of a lease, in seconds.")
    auto_disable_hard_fails: int = Field(
        3, ge=1, description="Hard failures in a row after which a task is disabled; a mandatory task is only reported."
    )
    rerun_max_attempts: int = Field(
        3,
        ge=1,
        le=20,
        description="Attempts at a failed task before the next scheduled tick, the first one included.",
    )
    retention_days: int = Field(14, ge=1, le=3650, description="Days for which finished runs are kept.")
    agg_derivation_version: int = Field(1, ge=1, description="derivation_version of new bars.")
    log_level: Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR"] = "INFO"
    tasks_per_step: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Tasks per Dagster step; a symbol's tasks stay together. Default: 1 if few tasks are due.",
    )
    agg_executor: Literal["in_process", "multiprocess", "celery", "k8s"] = Field(
        "in_process", description="Executor of the steps of a run."
    )
    agg_shared_dir: str | None = Field(
        None, description="Folder or fsspec URL that a run and its workers share; required by celery and k8s."
    )
    agg_k8s_max_pods: int = Field(10, ge=1, description="Most pods of one run at a time.")

    alert_urls: SecretStr = Field(
        SecretStr(""),
        description="Recipients of alerts: apprise URLs, separated by blanks or commas. Empty: none.",
    )

    @property
    def asset_prefix(self) -> tuple[str, ...]:
        """Parts of asset keys before the name."""
        prefix = self.env_name.value.lower() if self.asset_key_prefix is None else self.asset_key_prefix
        return (prefix,) if prefix else ()

    @field_validator("env_name", "log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("agg_executor", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


def variables() -> Mapping[str, str]:
    """Environment variables of this process and, where they are not set, those of ENV_FILE. Read-only."""
    from_file = {name: value for name, value in dotenv_values(ENV_FILE).items() if value is not None}
    return MappingProxyType(from_file | os.environ)


def load_settings() -> Settings:
    """Settings from environment variables. Raises SettingsError, which names each variable that is not valid."""
    try:
        return Settings.model_validate({name.lower(): value for name, value in variables().items()})
    except ValidationError as exc:
        wrong = [f"{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in exc.errors()]
        raise SettingsError(
            f"Not valid: {'; '.join(wrong)}. See .env.example for the values that each takes."
        ) from None


def variable_for(name: str, environment: Environment, given: Mapping[str, str] | None = None) -> str:
    """Name of the variable that holds a secret of an environment: NAME_<ENV> if it is set, else NAME.

    With the suffix one machine can serve four environments; a machine with one environment needs no suffix.

    Args:
        given: variables to choose from. Default: those of this process and of ENV_FILE.
    """
    specific = f"{name}_{environment.value}"
    return specific if (variables() if given is None else given).get(specific) else name
