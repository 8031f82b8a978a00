"""What an operator sets: environment, run limits, where the databases are.

Read from environment variables by the names that the predecessor's workers used, with their defaults. Nothing is read
at import, and nothing is written to the environment: child processes get their variables when they are started.
"""

import datetime as dt
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
    """Where a code location runs. DEV and TEST serve assets with test_active, STAGE and PROD those with active."""

    DEV = "DEV"
    TEST = "TEST"
    STAGE = "STAGE"
    PROD = "PROD"


class Settings(BaseModel):
    """Limits of a run; each field is the environment variable of the same name in upper case."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    env_name: Environment = Field(Environment.DEV, description="dev, test, stage or prod.")
    job_name: str = Field("agg-master", min_length=1, description="Name of the job in ops_runlog.")
    max_tasks_per_run: int = Field(20, ge=1, le=100_000, description="Tasks that one tick takes at most.")
    max_windows_per_task: int = Field(
        100, ge=1, le=100_000, description="Windows that one tick builds per task at most."
    )
    running_stale_seconds: int = Field(900, ge=60, le=86_400, description="Length of a lease.")
    auto_disable_hard_fails: int = Field(
        3, ge=1, description="Hard failures in a row until a task stops (or is alerted)."
    )
    rerun_max_attempts: int = Field(
        3,
        ge=1,
        le=20,
        description="Attempts at a task that failed until the schedule's next tick, the first one included.",
    )
    retention_days: int = Field(14, ge=1, le=3650, description="Days that finished runs are kept.")
    first_day: dt.date = Field(dt.date(2025, 7, 1), description="First day that can be picked for a backfill, UTC.")
    agg_derivation_version: int = Field(1, ge=1, description="derivation_version of the bars that are written.")
    log_level: Literal["DEBUG", "INFO", "WARN", "WARNING", "ERROR"] = "INFO"
    tasks_per_step: int = Field(
        1, ge=1, le=10_000, description="Tasks per Dagster step; a symbol's tasks stay together."
    )
    agg_executor: Literal["in_process", "multiprocess", "celery", "k8s"] = Field(
        "in_process", description="Where the steps of a run are done."
    )
    agg_shared_dir: str | None = Field(
        None, description="Folder or fsspec URL that run and workers share; for celery and k8s."
    )
    agg_k8s_max_pods: int = Field(10, ge=1, description="Pods that the steps of one run may have at a time.")

    alert_urls: SecretStr = Field(
        SecretStr(""), description="Whom to tell: apprise URLs, separated by blanks or commas. Empty: nobody."
    )

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
    """Settings from the environment. Raises SettingsError that names each variable that is not valid."""
    try:
        return Settings.model_validate({name.lower(): value for name, value in variables().items()})
    except ValidationError as exc:
        wrong = [f"{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in exc.errors()]
        raise SettingsError(f"Not valid: {'; '.join(wrong)}. See .env.example for what each variable takes.") from None


def variable_for(name: str, environment: Environment, given: Mapping[str, str] | None = None) -> str:
    """The variable that holds a secret of an environment: NAME_<ENV> where it is set, else NAME.

    So one machine can hold four environments, and one that holds a single environment needs no suffix.

    Args:
        given: variables to choose from. Default: those of this process and of ENV_FILE.
    """
    specific = f"{name}_{environment.value}"
    return specific if (variables() if given is None else given).get(specific) else name
