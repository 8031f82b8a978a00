"""Secrets in their real places, runs that end in every way, then a search of everything stored or displayed."""

import os
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from agg_pipeline.definitions import build_definitions
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.dagster_services import dagster_home
from agg_pipeline.embedded.files import Layout, State
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline_tests.conftest import TABLES
from agg_pipeline_tests.dagster.client import DagsterClient
from agg_pipeline_tests.sql.helpers import put, register

NOW = "2026-01-05T02:01:00Z"
PASSWORD = "planted-password"
WRONG_KEY = sign_token("planted secret of another project", {"role": "service_role", "ref": "planted-reference"})
NOT_A_KEY = "sb_secret_planted\nsecond line"
COMMAND = str(Path(sysconfig.get_path("scripts")) / "agg-pipeline")


@dataclass
class Scene:
    """A folder of `agg-pipeline up`, a database that it takes for a hosted project, and what was said so far."""

    stack: Stack
    root: Path
    environment: dict[str, str] = field(repr=False)
    said: list[str] = field(default_factory=list)
    url: str = ""  # of Dagster's UI

    def run_command(self, *arguments: str, **environment: str) -> str:
        """A command with other variables; its output, which counts as shown. It must fail."""
        done = subprocess.run(
            [COMMAND, *arguments], env=self.environment | environment, cwd=self.root, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode != 0, done.stdout
        self.said += [done.stdout, done.stderr]
        return done.stdout + done.stderr

    def kept(self) -> str:
        """Every row of both databases, every file and log that the pipeline, Dagster and the servers have written."""
        texts = list(self.said)
        for dsn in (self.stack.dsn, self.stack.dagster_dsn.replace("+psycopg2", "")):
            with psycopg.connect(dsn) as db:
                tables = db.execute(
                    "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in "
                    "('public', 'supabase_migrations')"
                ).fetchall()
                for (table,) in tables:
                    texts += [row for (row,) in db.execute(f"select t::text from {table} t")]
        logs = [*self.root.rglob("*"), *Layout(self.stack.root).logs.iterdir()]
        texts += [path.read_text(errors="replace") for path in logs if path.is_file() and path.suffix != ".lock"]
        texts.append(subprocess.run(["ps", "-ww", "-eo", "args"], check=True, capture_output=True, text=True).stdout)
        return "\n".join(texts)


@pytest.fixture
def scene(scratch: Stack, tmp_path: Path) -> Scene:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "DAGSTER_"))}
    dagster_home(tmp_path)
    return Scene(scratch, tmp_path, inherited | scratch.environment() | {"ENV_NAME": "prod"})


@pytest.fixture
def served(scene: Scene) -> Iterator[Scene]:
    """`agg-pipeline up` at work."""
    up = subprocess.Popen(
        [COMMAND, "up", "--root", str(scene.root), "--port", "0"], env=scene.environment, cwd=scene.root,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert up.stdout is not None
    try:
        for line in up.stdout:
            scene.said.append(line)
            if line.startswith("Ctrl-C"):
                break
        (scene.url,) = [line.split()[-1] for line in scene.said if line.startswith("Dagster UI")]
        yield scene
    finally:
        up.terminate()
        up.communicate(timeout=60)


@pytest.fixture
def market(scratch_db: psycopg.Connection) -> psycopg.Connection:
    """Three symbols with two hours of bars: one is right, one breaks, the bars of one cannot be written."""
    scratch_db.execute(f"truncate {TABLES} restart identity cascade")
    register(scratch_db, "GOOD", "BROKEN", "ECHO")
    for symbol in ("GOOD", "BROKEN", "ECHO"):
        put(scratch_db, symbol, "00:00", 120)
    put(scratch_db, "BROKEN", "00:00", 5, trade_count=2_000_000_000)
    # As a database or a proxy may do that is too helpful: the refusal tells all that came with the request.
    scratch_db.execute(
        """create or replace function public._echo() returns trigger language plpgsql security definer
             set log_min_messages = 'panic' as $$  -- its own log is not ours to keep clean
           begin raise exception 'refused with %', current_setting('request.headers', true); end $$;
           create or replace trigger echo before insert on public.derived_data_bars for each row
             when (new.canonical_symbol = 'ECHO') execute function public._echo()"""
    )
    return scratch_db


def run_in_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, config: dict[str, object] | None = None, **environment: str
) -> dg.ExecuteInProcessResult:
    """A run with other variables in the instance of `up`."""
    with monkeypatch.context() as patch:
        for name, value in (scene.environment | environment).items():
            patch.setenv(name, value)
        patch.setattr("agg_pipeline.database.transport.retries.ATTEMPTS", 1)
        job = build_definitions().resolve_job_def("agg_master")
        run_config = {"ops": {"select_due": {"config": config or {}}}}
        with dg.DagsterInstance.from_config(str(scene.root / "dagster_home")) as instance:
            return job.execute_in_process(run_config=run_config, instance=instance, raise_on_error=False)


GOOD = {"now_utc": NOW, "symbols": ["GOOD"], "trigger": "planted-trigger"}
BAD = {"now_utc": NOW, "symbols": ["BROKEN", "ECHO"]}


def hosted_with_a_wrong_password(stack: Stack) -> str:
    hosted = stack.dsn.replace(f":{stack_password(stack)}@", f":{PASSWORD}@")
    assert PASSWORD in hosted
    return hosted


def assert_no_secret_is_kept(scene: Scene, *seen: str) -> None:
    """None is kept or was shown; all of ``seen`` is, or the search has not gone where it should."""
    kept = scene.kept()
    assert [text for text in seen if text not in kept] == []
    shown = {name for name, secret in secrets(scene.stack).items() if secret in kept}
    assert shown == set()


def test_runs_keep_and_show_no_secret(
    scene: Scene, market: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process: a run of which some tasks fail, two that fail before, and a command."""
    some = run_in_process(scene, monkeypatch, GOOD | {"symbols": ["GOOD", "BROKEN", "ECHO"]})
    wrong_key = run_in_process(scene, monkeypatch, SUPABASE_SERVICE_ROLE_KEY=WRONG_KEY)
    hosted = run_in_process(scene, monkeypatch, SUPABASE_URL=hosted_with_a_wrong_password(scene.stack))
    assert [run.success for run in (some, wrong_key, hosted)] == [False, False, False]
    scene.run_command("migrate", SUPABASE_DB_URL=hosted_with_a_wrong_password(scene.stack))
    scene.said += capfd.readouterr()
    assert_no_secret_is_kept(
        scene, some.run_id, "planted-trigger", "22003", "refused with", "authorization", "STEP_FAILURE",
        "set SUPABASE_SERVICE_ROLE_KEY",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.nightly
def test_no_secret_is_kept_or_shown_anywhere(
    served: Scene, market: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same with `agg-pipeline up` at work, and with every way to fail."""
    scene, client, stack = served, DagsterClient(served.url), served.stack
    # Runs of the code server: one that succeeds, one with a hard failure and a database that tells too much.
    good, bad = client.launch(config=GOOD), client.launch(config=BAD)
    # Meanwhile with wrong settings: a line from each command ...
    hosted = hosted_with_a_wrong_password(stack)
    scene.run_command("tick", SUPABASE_SERVICE_ROLE_KEY=WRONG_KEY)
    scene.run_command("migrate", SUPABASE_DB_URL=hosted)
    # ... and a traceback where Dagster cannot reach its own storage.
    wrong_storage = stack.dagster_dsn.rpartition("@")[2].join(["postgresql+psycopg2://dagster:planted-password@", ""])
    traced = scene.run_command(
        "tick", DAGSTER_POSTGRES_URL=wrong_storage, DAGSTER_HOME=str(scene.root / "dagster_home")
    )
    assert "Traceback" in traced
    # Runs that fail before their first call, with tracebacks in the event log.
    for wrong in (
        {"SUPABASE_SERVICE_ROLE_KEY": WRONG_KEY},
        {"SUPABASE_SERVICE_ROLE_KEY": NOT_A_KEY},
        {"SUPABASE_URL": "http://127.0.0.1:9"},
        {"SUPABASE_URL": f"https://user:{PASSWORD}@[not-a-host"},
        {"SUPABASE_URL": hosted},
        {"SUPABASE_URL": f"postgresql://postgres:{PASSWORD}@part@127.0.0.1/postgres"},
    ):
        assert not run_in_process(scene, monkeypatch, **wrong).success, wrong
    assert client.wait_for_end(good).status == "SUCCESS"
    failed = "select count(*) = 2 from data_agg_state where timeframe = '5m' and last_error is not null"
    client.wait(
        lambda: market.execute(failed).fetchone() == (True,), "both symbols fail, in this run or one of a sensor"
    )
    client.wait(lambda: all(run.has_ended for run in client.runs()), "the runs that sensors started")
    scene.said += capfd.readouterr()

    assert_no_secret_is_kept(
        scene, good, bad, "planted-trigger", "22003", "refused with", "authorization", "Traceback", "STEP_FAILURE",
        "set SUPABASE_SERVICE_ROLE_KEY", "no answer from http://127.0.0.1:9", "LOGS_CAPTURED",
    )  # fmt: skip


def stack_password(stack: Stack) -> str:
    state = State.load(Layout(stack.root).state)
    assert state is not None
    return state.password


def secrets(stack: Stack) -> dict[str, str]:
    """What must not be found; of a token its claims and its signature, since all begin alike."""
    state = State.load(Layout(stack.root).state)
    assert state is not None
    found = {
        "superuser's password": state.password, "authenticator's password": state.authenticator_password,
        "password of Dagster's storage": state.dagster_password, "JWT secret": state.jwt_secret,
        "a wrong password": PASSWORD, "what is no key": "sb_secret_planted",
    }  # fmt: skip
    for name, token in (("key", stack.service_role_key), ("wrong key", WRONG_KEY)):
        _, found[f"claims of the {name}"], found[f"signature of the {name}"] = token.split(".")
    return found
