"""Dagster's own processes beside the embedded stack: code server, webserver, daemon."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from agg_pipeline.cli.app import CommandError

START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Services:
    """Dagster's running processes."""

    url: str
    processes: list[subprocess.Popen[bytes]]

    def alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)


def dagster_home(root: Path) -> Path:
    """The instance's folder, with the project's dagster.yaml in it as it is now."""
    home = (root / "dagster_home").absolute()
    home.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parents[1]
    # In a checkout it lies beside the package, in a wheel inside.
    config = next((p for p in (package / "dagster.yaml", package.parent / "dagster.yaml") if p.exists()), None)
    if config is None:
        raise CommandError("dagster.yaml is missing; install the package again, or work in a full checkout.")
    shutil.copyfile(config, home / "dagster.yaml")
    return home


@contextlib.contextmanager
def dagster_services(
    root: Path, environment: dict[str, str], *, host: str, port: int, module: str = "agg_pipeline.definitions"
) -> Iterator["Services"]:
    """Code server, webserver and daemon, ready; all are gone when the block ends, or when this process dies.

    Args:
        environment: variables that they get besides ours; secrets go this way and no other.
        port: of the webserver.
        module: of the definitions.
    """
    home, logs = dagster_home(root), root / "logs"
    logs.mkdir(exist_ok=True)
    code_port = free_port()
    workspace = home / "workspace.yaml"
    workspace.write_text(
        yaml.safe_dump(
            {"load_from": [{"grpc_server": {"host": "127.0.0.1", "port": code_port, "location_name": "agg_pipeline"}}]}
        )
    )
    env = os.environ | environment | {"DAGSTER_HOME": str(home)}
    commands = {
        "code-server": [
            "dagster",
            "code-server",
            "start",
            "-m",
            module,
            "-h",
            "127.0.0.1",
            "-p",
            str(code_port),
        ],
        "webserver": ["dagster-webserver", "-h", host, "-p", str(port), "-w", str(workspace)],
        "daemon": ["dagster-daemon", "run", "-w", str(workspace)],
    }
    url = f"http://{host}:{port}"
    started: list[subprocess.Popen[bytes]] = []
    try:
        for name, (program, *arguments) in commands.items():
            with (logs / f"{name}.log").open("ab") as log:
                started.append(
                    subprocess.Popen(
                        [_script(program), *arguments],
                        env=env,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                        preexec_fn=_prepare_child,
                    )
                )
            if name == "code-server":
                _wait(
                    started[-1],
                    lambda: _accepts("127.0.0.1", code_port),
                    f"the code server ({logs / 'code-server.log'})",
                )
        _wait(started[1], lambda: _answers(f"{url}/server_info"), f"the webserver ({logs / 'webserver.log'})")
        yield Services(url, started)
    finally:
        stop(reversed(started))


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End processes with their children: asked first, then made to."""
    waiting = list(processes)
    for process in waiting:
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    for process in waiting:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, deadline - time.monotonic()))
        _signal(process, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _script(name: str) -> str:
    """A program of the environment that we run in, whatever PATH says."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise CommandError(f"{path} is missing; install the package with its dependencies again.")
    return str(path)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _prepare_child() -> None:
    """A killed `up` must not leave a daemon behind that goes on launching ticks (Linux)."""
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # a shell's background job starts with it ignored, and children inherit that
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def _wait(process: subprocess.Popen[bytes], ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if process.poll() is not None:
            raise CommandError(f"{what} ended with code {process.returncode} while starting; see its log.")
        if time.monotonic() > deadline:
            raise CommandError(f"{what} was not ready after {START_TIMEOUT_S:.0f} s; see its log.")
        time.sleep(0.1)


def _accepts(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  loopback
        return bool(response.status == 200)
    return False
