"""agg-pipeline tick: a run of the job in a child process, as it is typed."""

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import put, register, scalar

COMMAND = str(Path(sysconfig.get_path("scripts")) / "agg-pipeline")


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "DAGSTER_"))}
    return inherited | stack.environment() | {"ENV_NAME": "prod"}


@pytest.fixture
def hour(clean: psycopg.Connection) -> psycopg.Connection:
    register(clean, "EURUSD")
    put(clean, "EURUSD", "09:00", 60)
    return clean


def tick(environment: dict[str, str], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, "tick", *options], env=environment, cwd=folder, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("by", sampled(["variables", "database URL in .env"], ["database URL in .env"]))
def test_a_tick_builds_what_is_due_and_prints_a_line_per_timeframe(
    environment: dict[str, str], hour: psycopg.Connection, stack: Stack, tmp_path: Path, by: str
) -> None:
    """The child process gets what the parent read, from variables or from .env."""
    if by != "variables":
        environment["SUPABASE_URL"] = stack.dsn
        del environment["SUPABASE_SERVICE_ROLE_KEY"]
        lines = [f"{name}={environment.pop(name)}" for name in stack.environment() if name in environment]
        (tmp_path / ".env").write_text("\n".join(lines))
    done = tick(environment, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [
        "12 5m bars written in PROD (tasks: 1).", "4 15m bars written in PROD (tasks: 1).",
    ]  # fmt: skip
    assert done.stderr == ""
    assert assert_equals_oracle(hour)["EURUSD", "5m"] == 12
    assert scalar(hour, "select array_agg(status) from ops_runlog") == ["success"]


@pytest.mark.nightly
def test_nothing_due_is_said(environment: dict[str, str], hour: psycopg.Connection, tmp_path: Path) -> None:
    done = tick(environment, tmp_path, "--timeframe", "5m")
    assert (done.returncode, done.stdout) == (0, "12 5m bars written in PROD (tasks: 1).\n"), done.stderr
    again = tick(environment, tmp_path, "--timeframe", "5m")
    assert (again.returncode, again.stdout) == (0, "Nothing was due.\n"), again.stderr


@pytest.mark.nightly
def test_a_failed_run_is_one_line(environment: dict[str, str], hour: psycopg.Connection, tmp_path: Path) -> None:
    hour.execute("update data_bars set trade_count = 2000000000")
    done = tick(environment, tmp_path, "--timeframe", "5m")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: 1 of 1 tasks failed: EURUSD/5m (hard): 22003 ")
    assert "Traceback" not in done.stderr


@pytest.mark.nightly
def test_an_unreachable_database_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    environment |= {"SUPABASE_URL": "postgresql://nobody:planted-secret@127.0.0.1:9/postgres"}
    done = tick(environment, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: agg_contract failed: OperationalError no answer from the database")
    assert done.stderr.count("\n") == 1
    assert "planted-secret" not in done.stderr


def test_a_command_does_not_import_dagster() -> None:
    """It takes seconds; only the child that executes a run needs it."""
    code = "import sys, agg_pipeline.cli; print([name for name in sys.modules if name.split('.')[0] == 'dagster'])"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300)
    assert loaded.stdout == "[]\n"


@pytest.mark.nightly
@pytest.mark.parametrize("signal", ["SIGINT to both", "SIGKILL to the command"])
def test_a_run_ends_with_its_command(
    environment: dict[str, str], hour: psycopg.Connection, stack: Stack, tmp_path: Path, signal: str
) -> None:
    """Ctrl-C reaches both processes. When the command is killed, the run notices that its standard input closes."""
    with psycopg.connect(stack.dsn) as blocker:
        blocker.execute("lock table derived_data_bars in share mode")
        command = subprocess.Popen(
            [COMMAND, "tick"], env=environment, cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        held = "select count(*) > 0 from data_agg_state where lease_owner is not null"
        _wait(lambda: scalar(hour, held) or command.poll() is not None, "a lease is held")
        if signal == "SIGINT to both":
            os.killpg(command.pid, 2)
        else:
            command.kill()
        _wait(lambda: scalar(hour, "select bool_and(status = 'failed') from ops_runlog"), "the run is closed")
        assert scalar(hour, held) is False
        assert command.wait(60) != 0


def _wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)
