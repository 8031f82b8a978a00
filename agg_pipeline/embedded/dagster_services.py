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

from agg_pipeline.embedded.errors import EmbeddedError

EVENT_BATCH_SIZE = "1000"
"""Events that Dagster stores with one insert: else each day of a backfill costs a connection per asset."""

START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 20.0
_SHORT_LIFE_S = 60.0
_FAILED_STARTS = 3


@dataclass
class Service:
    """One of Dagster's processes, with what it takes to start it again."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failed_starts: int = 0

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_prepare_child,
            )
        self.started = time.monotonic()
        return self.process

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None


@dataclass(frozen=True)
class Services:
    """Dagster's running processes."""

    url: str
    services: list[Service]

    def alive(self) -> bool:
        return not any(service.has_ended() for service in self.services)

    def revive(self) -> list[str]:
        """Start again what has ended by itself; the names. EmbeddedError if it ends again and again."""
        ended = [service for service in self.services if service.has_ended()]
        for service in ended:
            lasted_s = time.monotonic() - service.started
            service.failed_starts = service.failed_starts + 1 if lasted_s < _SHORT_LIFE_S else 0
            if service.failed_starts == _FAILED_STARTS:
                raise EmbeddedError(f"The {service.name} ends again and again.", remedy=f"See {service.log}.")
            service.start()
        return [service.name for service in ended]


def dagster_home(root: Path) -> Path:
    """The instance's folder, with the project's dagster.yaml in it as it is now."""
    home = (root / "dagster_home").absolute()
    home.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parents[1]
    # In a checkout it lies beside the package, in a wheel inside.
    config = next((p for p in (package / "dagster.yaml", package.parent / "dagster.yaml") if p.exists()), None)
    if config is None:
        raise EmbeddedError("dagster.yaml is missing.", remedy="Install the package again, or work in a full checkout.")
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
    env = {"DAGSTER_EVENT_BATCH_SIZE": EVENT_BATCH_SIZE} | os.environ | environment | {"DAGSTER_HOME": str(home)}
    commands = {
        "code-server": [
            "dagster", "code-server", "start", "-m", module, "-h", "127.0.0.1", "-p", str(code_port),
        ],
        "webserver": ["dagster-webserver", "-h", host, "-p", str(port), "-w", str(workspace)],
        "daemon": ["dagster-daemon", "run", "-w", str(workspace)],
    }  # fmt: skip
    services = [
        Service(name, [_script(program), *arguments], env, logs / f"{name}.log")
        for name, (program, *arguments) in commands.items()
    ]
    url = f"http://{host}:{port}"
    try:
        code_server, webserver, daemon = services
        code_server.start()
        _wait(code_server, lambda: _accepts("127.0.0.1", code_port))
        webserver.start()
        daemon.start()
        _wait(webserver, lambda: _answers(f"{url}/server_info"))
        yield Services(url, services)
    finally:
        stop(service.process for service in reversed(services) if service.process is not None)


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
        raise EmbeddedError(f"{path} is missing.", remedy="Install the package with its dependencies again.")
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


def _wait(service: Service, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not ready():
        if service.has_ended():
            raise EmbeddedError(f"The {service.name} ended while starting.", remedy=f"See {service.log}.")
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The {service.name} was not ready after {START_TIMEOUT_S:.0f} s.", remedy=f"See {service.log}."
            )
        time.sleep(0.1)


def _accepts(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  loopback
        return bool(response.status == 200)
    return False
