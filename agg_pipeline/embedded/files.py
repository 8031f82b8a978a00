"""The small files of a stack's folder: locks, the secrets and ports, and what the supervisor reports."""

import contextlib
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

if sys.platform != "win32":
    import fcntl

POLL_S = 0.01


@dataclass(frozen=True)
class Layout:
    """Names inside a stack's folder."""

    root: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.root / "data"

    @property
    def state(self) -> Path:
        """Secrets and ports, so that a restart keeps the URL and the key."""
        return self.root / "state.json"

    @property
    def status(self) -> Path:
        """Written by the supervisor; worth something only while its lock is held."""
        return self.root / "status.json"

    @property
    def start_lock(self) -> Path:
        """Held by whoever starts or stops, so that two of them take turns."""
        return self.root / "start.lock"

    @property
    def alive_lock(self) -> Path:
        """Held by the supervisor for life: a lock, unlike a pid, cannot be stale."""
        return self.root / "supervisor.lock"

    def log(self, server: str) -> Path:
        """Log of ``postgres``, ``postgrest`` or ``supervisor``."""
        return self.root / "log" / f"{server}.log"


@dataclass
class State:
    """What must survive a restart. Only ever written with mode 0600."""

    db_port: int = 0
    api_port: int = 0
    admin_port: int = 0
    api_missing: str | None = None
    password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    authenticator_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    dagster_password: str = field(default_factory=lambda: secrets.token_hex(24), repr=False)
    jwt_secret: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)

    @classmethod
    def load(cls, path: Path) -> "State | None":
        """The stored state; None when there is none or it is unreadable."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Replace the stored state in one step."""
        write_private(path, json.dumps(asdict(self), indent=1))

    def choose_ports(self, *names: str) -> None:
        """Keep each named port that is free, and replace the others."""
        for name in names:
            others = {self.db_port, self.api_port, self.admin_port} - {getattr(self, name)}
            setattr(self, name, _free_port(getattr(self, name), others))


@dataclass(frozen=True)
class Status:
    """The supervisor's report: its pid, and per server the pid and how often it died."""

    pid: int = 0
    ready: bool = False
    stopping: bool = False
    servers: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Status":
        """The last report; an empty one when there is none."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return cls()

    def deaths(self, server: str) -> int:
        """How often a server ended unasked."""
        return self.servers.get(server, {}).get("deaths", 0)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, at no moment half written or readable by others."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold a file lock; it works between threads too, and ends with the process however it ends."""
    deadline = time.monotonic() + timeout_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not _try_lock(descriptor):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} has been held by another process for {timeout_s:.0f} s")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _free_port(wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0):
        # The option lets a port be reused whose last connections still linger in TIME_WAIT.
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            if found not in taken:
                return found
    return _free_port(0, taken)
