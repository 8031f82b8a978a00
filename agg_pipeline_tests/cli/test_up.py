"""`agg-pipeline up` and `down` as an operator runs them: what is killed comes back, what ends leaves nothing behind."""

import os
import signal
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.files import Layout
from agg_pipeline.embedded.supervisor.protocol import Status
from agg_pipeline_tests.embedded.processes import children, listens, wait_until, wait_until_gone

COMMAND = str(Path(sysconfig.get_path("scripts")) / "agg-pipeline")
DAGSTER = ["code-server", "webserver", "daemon"]
PATIENCE_S = 300.0  # a busy machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="lists the processes below the supervisor"),
]


class Up:
    """A running `agg-pipeline up`, and what it has printed."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.layout = Layout.of(root)
        self.lines: list[str] = []
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("SUPABASE_", "DAGSTER_", "ENV_NAME"))}
        self.process = subprocess.Popen(
            [COMMAND, "up", "--root", str(root), "--port", "0"], env=inherited | environment, cwd=root.parent,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.wait()

    def says(self, text: str) -> None:
        """Wait for a line with this text."""

        def said() -> bool:
            assert any(text in line for line in self.lines) or self.process.poll() is None, self.lines
            return any(text in line for line in self.lines)

        wait_until(said, PATIENCE_S)

    def wait(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        return code

    def command(self, name: str) -> Result:
        """Another command on the same folder, as from another terminal."""
        return CliRunner().invoke(app, [name, "--root", str(self.layout.root)])

    def status(self) -> Status:
        return Status.load(self.layout.status)

    def kill_service(self, name: str) -> None:
        """kill -9 of a service, but not of its children; returns when it runs again or has been given up."""
        killed = self.status().services[name]
        os.kill(killed.pid, signal.SIGKILL)

        def is_over() -> bool:
            now = self.status().services.get(name)  # None: `up` has noticed, and stops
            return now is None or now.given_up or (now.deaths > killed.deaths and now.pid > 0)

        wait_until(is_over)

    def processes(self) -> dict[str, int]:
        """The supervisor and everything below it."""
        found, waiting = {}, [self.status().pid]
        while waiting:
            pid = waiting.pop()
            found[f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}"] = pid
            waiting += children(pid)
        return found

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "DAGSTER_POSTGRES_URL", "ENV_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.nightly
def test_down_stops_an_up_that_is_still_starting(tmp_path: Path) -> None:
    root = tmp_path / "stack"
    with Up(root) as up:
        up.says("Starting Dagster")
        wait_until(lambda: "code-server" in up.status().services)
        processes = up.processes()
        down = up.command("down")
        assert (down.exit_code, down.stdout) == (0, "Stopped.\n"), down.output
        wait_until_gone(processes)
        assert up.wait() == 0
        assert up.lines[-2:] == ["Stopping ...\n", "Stopped. Data stays in the folder.\n"]


@pytest.mark.nightly
def test_kill_9_of_up_leaves_nothing(tmp_path: Path) -> None:
    """Database, Dagster and the children of both."""
    with Up(tmp_path / "stack") as up:
        up.says("Ctrl-C stops everything")
        assert list(up.status().services) == ["postgres", "postgrest", *DAGSTER], "stopped in reverse order"
        assert {path.stem for path in up.layout.logs.iterdir()} == {"supervisor", *up.status().services}
        second = up.command("up")
        assert (second.exit_code, second.stdout.split(":")[0]) == (0, f"Already up, in process {up.process.pid}")
        wait_until(lambda: bool(children(up.status().services["code-server"].pid)))
        up.kill_service("code-server")  # its gRPC server is nobody's child now
        up.says("code-server ended by itself and was started again; see ")
        (url,) = [line.split()[-1] for line in up.lines if line.startswith("Dagster UI")]
        processes = up.processes()
        assert len(processes) > 10
        up.process.kill()
        wait_until_gone(processes)
        assert not listens(url)
        assert up.command("down").stdout.replace("\n", "") == f"Nothing runs in {up.layout.root}."


@pytest.mark.nightly
def test_a_service_that_keeps_ending_ends_up_with_its_name_and_log(
    stack: Stack, clean: psycopg.Connection, tmp_path: Path
) -> None:
    """With a hosted project and a database of Dagster's own; then no PostgreSQL is started here."""
    with Up(tmp_path / "hosted", **stack.environment()) as up:
        up.says("Ctrl-C stops everything")
        assert list(up.status().services) == DAGSTER
        processes = up.processes()
        for _ in range(4):  # the first life is not a short one if the start took longer than a minute
            if (daemon := up.status().services.get("daemon")) and not daemon.given_up:
                up.kill_service("daemon")
        assert up.wait() == 1
        (error,) = [line for line in up.lines if line.startswith("Error: ")]
        assert error.startswith(f"Error: daemon of {up.layout.root} ends again and again and was given up.")
        assert f"See {up.layout.log('daemon')}." in error
        wait_until_gone(processes)
        planted = [stack.service_role_key, stack.dagster_dsn]
        kept = [*up.lines, *(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())]
        assert not any(secret in text for secret in planted for text in kept)
