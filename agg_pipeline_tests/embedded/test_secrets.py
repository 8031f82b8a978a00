"""Secrets stay in a private file and in environments: not in reprs, command lines, logs or error messages."""

import subprocess
from pathlib import Path

import pytest

from agg_pipeline import embedded
from agg_pipeline.embedded.files import Layout, State
from agg_pipeline_tests.embedded.processes import Starter, pids


def secrets_of(stack: embedded.Stack) -> list[str]:
    """Every secret of a stack."""
    state = State.load(Layout(stack.root).state)
    assert state is not None
    return [
        state.password,
        state.authenticator_password,
        state.dagster_password,
        stack.jwt_secret,
        stack.service_role_key,
    ]


def test_not_in_a_repr(asked: embedded.Stack) -> None:
    """A failed assertion or a log line prints reprs."""
    shown = f"{asked!r} {asked} {State.load(Layout(asked.root).state)!r}"
    assert str(asked.root) in shown
    assert not any(secret in shown for secret in secrets_of(asked))


def test_not_in_a_command_line_or_a_log(asked: embedded.Stack) -> None:
    """Both are read by others: every user may list processes."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    logged = "".join(log.read_text() for log in Layout(asked.root).logs.iterdir())
    assert "embedded/supervisor" in listed
    assert "ready to accept connections" in logged
    assert not any(secret in listed + logged for secret in secrets_of(asked))


def test_files_are_private(asked: embedded.Stack) -> None:
    """Whoever is not the owner sees neither secrets nor rows."""
    layout = Layout(asked.root)
    for path in (layout.state, layout.status, layout.log("postgres"), layout.log("postgrest")):
        assert path.stat().st_mode & 0o077 == 0, path
    for folder in (layout.data, layout.logs):
        assert folder.stat().st_mode & 0o077 == 0, folder
    assert asked.root.stat().st_mode & 0o066 == 0
    assert not any(path.name.startswith(".password") for path in asked.root.iterdir())


def test_servers_do_not_inherit_the_users_environment(asked: embedded.Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key or a PGSSLMODE of a hosted project has no business in them."""
    environ = Path(f"/proc/{pids(asked.root)['postgres']}/environ")
    if not environ.exists():
        pytest.skip("needs /proc")
    names = {entry.split("=")[0] for entry in environ.read_text().split("\0") if entry}
    assert names <= {"PATH", "LD_LIBRARY_PATH", "TMPDIR", "LC_ALL", "TZ", "PG_GRANDPARENT_PID"}
    monkeypatch.setenv("PGOPTIONS", "-c no_such_setting=1")
    monkeypatch.setenv("PGSSLMODE", "require")
    assert embedded.running(asked.root) == asked


def test_environment_names_what_the_pipeline_reads(asked: embedded.Stack) -> None:
    """Values as the pipeline and Dagster want them."""
    environment = asked.environment()
    assert environment["SUPABASE_URL"] == (asked.api_url or asked.dsn)
    assert environment["SUPABASE_SERVICE_ROLE_KEY"] == asked.service_role_key
    assert environment["SUPABASE_REST_PATH"] == "/"
    assert environment["DAGSTER_POSTGRES_URL"] == asked.dagster_dsn


def test_an_error_names_what_failed_and_shows_the_log(root: Path, start: Starter) -> None:
    """A broken setting of the user's: the reason is in the message, no secret is."""
    state, settings = State.load(Layout(root).state), Layout(root).data / "postgresql.conf"
    assert state is not None
    good = settings.read_text()
    settings.write_text(good + "\nno_such_setting = 1\n")
    try:
        with pytest.raises(embedded.EmbeddedError, match="no_such_setting") as failed:
            start(root)
    finally:
        settings.write_text(good)
    assert str(root) in str(failed.value)
    assert state.password not in str(failed.value)
    assert embedded.running(root) is None
    assert not Layout(root).status.exists()
