"""What a person reads who asked for something that cannot be done: one line, exit code 1, no traceback.

Of `load` it is 2: nothing was loaded.
"""

import os
import socket
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app, repair, tables
from agg_pipeline.database.models.health import State
from agg_pipeline.database.models.rebuild import BadCursor
from agg_pipeline_tests.embedded.processes import children


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_DB_URL", "ENV_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result, said: str, code: int = 1) -> None:
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "command", [["status"], ["sync"], ["tick"], ["migrate"], ["doctor"], ["repair"], ["load", "bars.csv"]]
)
def test_without_a_database_it_says_how_to_start_one(command: list[str]) -> None:
    code = 2 if command[0] == "load" else 1
    refused(run(*command), "nothing runs in .agg_pipeline. Start it with `agg-pipeline up`", code)


def test_half_of_the_settings_names_the_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL_DEV", "https://example.invalid")
    refused(run("status"), "SUPABASE_SERVICE_ROLE_KEY is not set, but SUPABASE_URL_DEV is")
    monkeypatch.delenv("SUPABASE_URL_DEV")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "key")
    refused(run("up"), "SUPABASE_URL is not set, but SUPABASE_SERVICE_ROLE_KEY is")


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "project.example")
    refused(run("status"), "SUPABASE_URL is not a URL")


def test_a_wrong_setting_stops_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_TASKS_PER_RUN", "many")
    for command in ("up", "status", "sync"):
        refused(run(command), "MAX_TASKS_PER_RUN='many'")


def test_an_unreachable_database_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "planted-secret")
    monkeypatch.setattr("agg_pipeline.database.transport.retries.ATTEMPTS", 1)
    result = run("status")
    refused(result, "no answer from http://127.0.0.1:9")
    assert "planted-secret" not in result.output


def test_migrate_to_an_unreachable_database_is_one_line() -> None:
    result = run("migrate", "--database-url", "postgresql://postgres:planted-secret@127.0.0.1:9/postgres")
    refused(result, "the database cannot be reached")
    assert "planted-secret" not in result.output


def test_an_unknown_timeframe_lists_what_there_is() -> None:
    refused(run("tick", "--timeframe", "7m"), "unknown timeframe '7m'; there are 1m, 5m, 15m, 1h, 4h, 1d")


def test_bars_that_are_built_cannot_be_loaded() -> None:
    refused(run("load", "bars.csv", "--timeframe", "15m"), "15m bars are built, not loaded: raw bars are 1m or 5m", 2)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--separator", "xx"), "--separator 'xx' cannot separate fields"),
        (("--timezone", "Mars"), "--timezone 'Mars' is no time zone"),
        (("--columns", "when=Date"), "--columns 'when=Date' names no column"),
        (("--symbol", " "), "symbol ' ' begins or ends with a blank"),
    ],
)
def test_an_option_of_load_that_cannot_be_is_one_line(option: tuple[str, str], said: str) -> None:
    refused(run("load", "bars.csv", *option), said, 2)


def test_the_help_of_load_has_its_exit_codes() -> None:
    shown = " ".join(run("load", "--help").stdout.split())
    assert "Exit code 0: all is loaded; 1: some rows or files are not; 2: nothing is; 130, 143: stopped" in shown


@pytest.mark.parametrize(
    ("days", "said"),
    [
        (("2026-01-05", "2026-01-04"), "--to 2026-01-04 is before --from 2026-01-05"),
        (("1989-12-31", "1999-01-02"), "--from 1989-12-31 is before 1990-01-01, the first day that Dagster can pick"),
        (("soon", "2026-01-04"), "--from soon is not a date"),
        (("2026-01-05", "2026-01-06"), "nothing runs in .agg_pipeline. Start it with `agg-pipeline up`, or pass --ui"),
    ],
)
def test_a_backfill_that_cannot_be_is_one_line(days: tuple[str, str], said: str) -> None:
    refused(run("backfill", "--from", days[0], "--to", days[1]), said)


def test_down_without_anything_running_says_so() -> None:
    result = run("down")
    assert (result.exit_code, result.stdout) == (0, "Nothing runs in .agg_pipeline.\n")


def test_up_on_a_taken_port_starts_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        before = children(os.getpid())
        result = run("up", "--root", str(tmp_path / "stack"), "--port", port)
        refused(result, f"Port {port} of 127.0.0.1 is taken by another process. Choose another with --port")
        refused(run("up", "--host", "0.0.0.0", "--port", port), f"Port {port} of 0.0.0.0 is taken")
        assert children(os.getpid()) == before
    assert list(tmp_path.iterdir()) == [], "not even a folder"


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.1", "is no address of this machine. Correct --host"), ("no such", "is no address")]
)
def test_up_at_an_address_that_is_none_starts_nothing(tmp_path: Path, host: str, said: str) -> None:
    refused(run("up", "--host", host), said)
    assert list(tmp_path.iterdir()) == []


def test_doctor_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("doctor", "--database-url", "postgresql://postgres:planted-secret@127.0.0.1:9/postgres")
    refused(result, "the database cannot be reached")
    assert "planted-secret" not in result.output
    monkeypatch.setenv("SUPABASE_DB_URL", "host=127.0.0.1 password=planted-secret")
    result = run("doctor")
    refused(result, "write it as postgresql://user:password@host:5432/database")
    assert "planted-secret" not in result.output


def test_whatever_the_database_may_say_has_its_words() -> None:
    assert {*get_args(BadCursor.model_fields["kind"].annotation)} == {*repair._CURSORS}
    assert {*get_args(State)} == {*tables.COLOURS}
