"""Files in the folder of a stack: paths, locks, logs, and the secrets and ports that survive a restart."""

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agg_pipeline.embedded.ports import free_port

if sys.platform != "win32":
    import fcntl

POLL_S = 0.01
LOG_LIMIT = 5_000_000  # bytes


@dataclass(frozen=True)
class Layout:
    """Paths inside the folder of a stack."""

    root: Path

    @classmethod
    def of(cls, root: Path) -> "Layout":
        """Layout of a folder given in any form; the supervisor and its services need an absolute path."""
        return cls(root.expanduser().resolve())

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
        """Written by the supervisor; valid only while it holds ``supervisor_lock``."""
        return self.root / "status.json"

    @property
    def start_lock(self) -> Path:
        """Held during a start or a stop, so that two of them never overlap."""
        return self.root / "start.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor for its whole life: a lock, unlike a pid file, cannot be stale."""
        return self.root / "supervisor.lock"

    @property
    def logs(self) -> Path:
        """Folder of all logs."""
        return self.root / "logs"

    def log(self, service: str) -> Path:
        """Log of a service, or of the supervisor."""
        return self.logs / f"{service}.log"

    def make(self) -> None:
        """Make the folder if it is missing, closed to other users, but for root: PostgreSQL's user must pass it."""
        if not self.root.exists():
            self.root.mkdir(parents=True)
            self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            (self.root / ".gitignore").write_text("*\n")
        self.logs.mkdir(exist_ok=True)
        self.logs.chmod(0o700)


@dataclass
class State:
    """Secrets and ports of a stack. Written with mode 0600 only.

    Attributes:
        db_port, api_port, admin_port: ports of PostgreSQL, PostgREST, PostgREST's readiness check; 0 if not chosen yet.
        api_missing: why there is no PostgREST; None if there is one.
    """

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
        """The stored state; None if there is none or it is not readable."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Replace the stored state in one step."""
        write_private(path, json.dumps(asdict(self), indent=1))

    def choose_ports(self, *names: str) -> None:
        """Keep each named port that is free, and replace each that is taken."""
        for name in names:
            others = {self.db_port, self.api_port, self.admin_port} - {getattr(self, name)}
            setattr(self, name, free_port(getattr(self, name), others))


def prepare_log(log: Path) -> Path:
    """Make a log that only its owner can read. One longer than LOG_LIMIT becomes ``<name>.log.1`` first."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
    return log


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step with one that only its owner can read."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


@contextlib.contextmanager
def locked(path: Path, *, timeout_s: float) -> Iterator[None]:
    """Hold a file lock, against other threads too. It ends with the process, however that ends. Raises TimeoutError."""
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
    """Whether a process holds the lock."""
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
