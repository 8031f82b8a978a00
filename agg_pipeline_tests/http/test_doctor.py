"""Findings of doctor on a migrated database whose tasks do not progress."""

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from typer.testing import CliRunner

from agg_pipeline.cli import app
from agg_pipeline.database.transport import open_transport
from agg_pipeline.doctor import Finding, examine
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline_tests.sql.helpers import finish, put, register, start, tick


@pytest.fixture
def held(clean: psycopg.Connection) -> Iterator[psycopg.Connection]:
    """Two hours of bars, and a foreign trigger that stops every 5m cursor."""
    register(clean, "EURUSD")
    put(clean, "EURUSD", "09:00", 120)
    clean.execute(
        """create function public.hold() returns trigger language plpgsql as $$
           begin new.last_agg_bar_ts_utc := old.last_agg_bar_ts_utc; return new; end $$;
           create trigger hold before update on data_agg_state
             for each row when (old.timeframe = '5m') execute function public.hold()"""
    )
    yield clean
    clean.execute("drop trigger if exists hold on data_agg_state; drop function public.hold()")


def found(stack: Stack) -> list[Finding]:
    with contextlib.closing(open_transport(stack.dsn, "")) as transport:
        return examine(transport, dsn=stack.dsn).findings


def test_a_trigger_that_stalls_a_task_is_named_with_its_drop_command(stack: Stack, held: psycopg.Connection) -> None:
    (note,) = [finding for finding in found(stack) if finding.about == "triggers"]
    assert (note.severity, note.found.rpartition(": ")[2]) == ("note", "hold on public.data_agg_state")
    tick(held, "11:01")
    tick(held, "11:06")
    (warning,) = [finding for finding in found(stack) if finding.found.startswith("stalled: ")]
    assert warning.severity == "warning"
    assert warning.found == ("stalled: EURUSD/5m; triggers of others may be the cause: hold on public.data_agg_state")
    held.execute(warning.remedy.rpartition("if one is the cause: ")[2].encode())
    tick(held, "11:11")
    assert [
        finding.found for finding in found(stack) if "stalled" in finding.found or finding.about == "triggers"
    ] == []


def test_a_trigger_is_named_for_a_failed_task_too(stack: Stack, held: psycopg.Connection) -> None:
    token = start(held, "EURUSD", "5m", "11:01", owner="run")["lease_token"]
    finish(held, "EURUSD", "5m", "11:01", token=token, success=False, fail_kind="hard", error="P0001 no more of these")
    (warning,) = [finding for finding in found(stack) if finding.found.startswith("failed: ")]
    assert warning.found == "failed: EURUSD/5m; triggers of others may be the cause: hold on public.data_agg_state"


@pytest.mark.parametrize("is_right", [True, False])
def test_the_key_of_the_runs_is_tested_too(
    stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    if stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
    key = stack.service_role_key if is_right else sign_token("another secret, long enough", {"role": "service_role"})
    for name, value in (stack.environment() | {"SUPABASE_DB_URL": stack.dsn, "ENV_NAME": "prod"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", key)
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == (0 if is_right else 1), result.output
    assert ("error access: runs cannot use SUPABASE_URL" in result.stdout) == (not is_right), result.output
