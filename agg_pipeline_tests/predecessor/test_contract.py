"""Our gateway before a database of the predecessor's: one readable message, whichever state, whichever way to it."""

import contextlib
import json
import time
from collections.abc import Iterator

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import FUNCTIONS, AggGateway
from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.transport import open_transport
from agg_pipeline.database.transport.rest import RestTransport
from agg_pipeline.embedded import Stack, temporary
from agg_pipeline.errors import GatewayError, PermanentError
from agg_pipeline_tests.predecessor.states import STATES, bring_to, build
from agg_pipeline_tests.sql.helpers import scalar

EMPTY = """
drop schema if exists supabase_migrations cascade;
create schema public;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
"""


@pytest.fixture(scope="module")
def project() -> Iterator[Stack]:
    with temporary() as started:
        yield started


@pytest.fixture(params=STATES)
def state(request: pytest.FixtureRequest, project: Stack, monkeypatch: pytest.MonkeyPatch) -> str:
    """The project is in this state, without bars, and the commands talk to it over its REST API."""
    name = str(request.param)
    with psycopg.connect(project.dsn, autocommit=True) as db:
        db.execute("drop schema public cascade")
        db.execute(EMPTY.encode())
        build(db, history=False)
        bring_to(db, name)
    monkeypatch.setattr("agg_pipeline.database.transport.retries.JITTER_S", 0.0)
    monkeypatch.setenv("ENV_NAME", "PROD")
    monkeypatch.delenv("SUPABASE_DB_URL", raising=False)
    for variable, value in project.environment().items():
        monkeypatch.setenv(variable, value)
    return name


def wait_for_api(project: Stack, *, is_ours: bool) -> None:
    """PostgREST reads the schema anew in its own time."""
    with psycopg.connect(project.dsn, autocommit=True) as db:
        db.execute("notify pgrst, 'reload schema'")
    with contextlib.closing(transport(project)) as api:
        for _ in range(500):
            with contextlib.suppress(GatewayError):
                functions = api.functions()
                if "agg_start" in functions and ("agg_contract" in functions) == is_ours:
                    return
            time.sleep(0.02)
    raise AssertionError("PostgREST still describes the old schema")


def transport(project: Stack) -> RestTransport:
    if project.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {project.api_missing}")
    return RestTransport(project.api_url, project.service_role_key, rest_path="/", timeout_s=10)


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def refusal(gateway: AggGateway) -> str:
    with contextlib.closing(gateway), pytest.raises(PermanentError) as refused:
        gateway.check_contract()
    return str(refused.value)


def test_the_gateway_lists_what_is_missing_and_doctor_says_which_state_it_is(state: str, project: Stack) -> None:
    wait_for_api(project, is_ours=False)
    said = refusal(AggGateway(open_transport(project.dsn, "")))
    assert said == refusal(AggGateway(transport(project)))
    with psycopg.connect(project.dsn) as db:
        has = set(
            scalar(db, "select array_agg(proname::text) from pg_proc where pronamespace = 'public'::regnamespace")
        )
    missing = sorted(FUNCTIONS - has)
    assert f"{len(missing)} of {len(FUNCTIONS)} functions are missing: {', '.join(missing)}" in said
    assert "Run `agg-pipeline migrate` against it" in said
    assert "\n" not in said

    examined = run("doctor", "--json")
    found = json.loads(examined.stdout)
    assert (examined.exit_code, found["sound"]) == (1, False)
    assert ("before its phase 5" in found["state"]) == (state == "before_phase_5")
    assert ("two agg_finish" in found["state"]) == (state in ("doubled_finish", "hour_of_010"))
    assert ("of the validator" in found["state"]) == (state == "health_of_the_validator")
    about = [finding["about"] for finding in found["findings"]]
    assert about.count("not checked") == 6, "what the key cannot see is said"
    assert any("XAUUSD/5m" in finding["found"] for finding in found["findings"] if finding["about"] == "cursors")


@pytest.mark.parametrize("state", ["doubled_finish"], indirect=True)
def test_after_the_migration_doctor_sees_over_http_what_is_left(state: str, project: Stack) -> None:
    migrate(project.dsn)
    wait_for_api(project, is_ours=True)
    with contextlib.closing(AggGateway(transport(project))) as gateway:
        gateway.check_contract()
    text = run("doctor").stdout
    assert "This is agg_pipeline, contract 4." in text
    assert "left running by a worker that is gone" in text
    assert "agg-pipeline repair --apply" in text
    assert run("repair", "--apply").exit_code == 0
    examined = run("doctor")
    assert (examined.exit_code, "Sound." in examined.stdout) == (0, True), examined.output
