"""Start, attach to and stop the embedded stack: PostgreSQL and PostgREST with Supabase's roles, on loopback."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from agg_pipeline.embedded import owner
from agg_pipeline.embedded import postgres as cluster
from agg_pipeline.embedded import postgrest as api
from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import POLL_S, Layout, State, Status, is_locked, locked
from agg_pipeline.embedded.launch import launch

ATTACH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Stack:
    """A running stack. Everything secret is kept out of the repr, so that no log line or failed test can show it."""

    root: Path
    api_url: str | None  # bare PostgREST, no /rest/v1; None where no PostgREST can be had
    api_missing: str | None  # why api_url is None
    dsn: str = field(repr=False)  # superuser postgres, database postgres
    service_role_key: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    dagster_dsn: str = field(repr=False)  # SQLAlchemy URL of Dagster's own database

    def environment(self) -> dict[str, str]:
        """The variables with which the pipeline and Dagster use this stack."""
        return {
            "SUPABASE_URL": self.api_url or self.dsn,
            "SUPABASE_SERVICE_ROLE_KEY": self.service_role_key,
            "SUPABASE_REST_PATH": "/",
            "DAGSTER_POSTGRES_URL": self.dagster_dsn,
        }


def start(root: Path, *, durable: bool = True) -> Stack:
    """Start the stack of a folder, or attach to it if it runs.

    The process that starts it owns it: the servers stop when that process ends, however it ends. A process that
    attaches does not prolong their life.

    Args:
        root: data folder, made if missing. Data, secrets and ports in it survive.
        durable: False turns fsync off, for tests and demonstrations: a power cut may then cost the data.
    """
    with _explained(root):
        return _start(root, durable=durable, remove=False)


def running(root: Path) -> Stack | None:
    """Attach to the stack of a folder; None if it does not run or does not answer."""
    layout = Layout(_absolute(root))
    with _explained(root):
        state = State.load(layout.state)
        if state is None or not is_locked(layout.alive_lock):
            return None
        status = Status.load(layout.status)
        return _stack(layout, state) if status.ready and not status.stopping and cluster.answers(state) else None


def stop(root: Path) -> bool:
    """Stop the stack of a folder, whoever owns it, and wait until it is down; True if something was stopped."""
    layout = Layout(_absolute(root))
    if not layout.start_lock.exists():
        return False
    with _explained(root), _turn(layout):
        stopped = _stop_supervisor(layout)
        owner.disown(layout.root)
        return cluster.stop_orphan(layout.data) or stopped


@contextlib.contextmanager
def temporary() -> Iterator[Stack]:
    """A stack in a temporary folder, not durable; stopped and removed at the end, also if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="agg-pipeline-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # our own folder: lets the unprivileged user pass, shows nothing
    try:
        with _explained(folder):
            stack = _start(folder, durable=False, remove=True)
        yield stack
    finally:
        owner.disown(folder.resolve())
        shutil.rmtree(folder, ignore_errors=True)  # there still, if the start failed early


def _start(root: Path, *, durable: bool, remove: bool) -> Stack:
    if sys.platform == "win32":
        raise EmbeddedError("The embedded stack needs Linux or macOS.", remedy="Use WSL, or a Supabase project.")
    layout = Layout(_absolute(root))
    if not layout.root.exists():
        layout.root.mkdir(parents=True)
        layout.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
        (layout.root / ".gitignore").write_text("*\n")
    layout.log("").parent.mkdir(mode=0o700, exist_ok=True)
    with _turn(layout):
        return _attach(layout) or _stack(layout, launch(layout, durable=durable, remove=remove))


def _attach(layout: Layout) -> Stack | None:
    """Wait for a stack that is alive: ready, being restarted by its supervisor, or on its way down (None)."""
    deadline = time.monotonic() + ATTACH_TIMEOUT_S
    while is_locked(layout.alive_lock):
        state = State.load(layout.state)
        stack = running(layout.root) if state is not None else None
        if stack is not None and state is not None and (stack.api_url is None or api.is_ready(state)):
            return stack
        if time.monotonic() > deadline:
            dead = "postgres" if state is None or not cluster.answers(state) else "postgrest"
            raise EmbeddedError(
                f"The stack of {layout.root} runs, but {dead} has not answered for {ATTACH_TIMEOUT_S:.0f} s.",
                remedy="Stop it and start again.",
                log=layout.log(dead),
            )
        time.sleep(POLL_S)
    return None


def _stop_supervisor(layout: Layout) -> bool:
    if not is_locked(layout.alive_lock):
        return False
    deadline = time.monotonic() + cluster.STOP_GRACE_S + 30
    asked = False
    while is_locked(layout.alive_lock):
        # The pid is the lock holder's own word, and the lock is still held: no other process can have it by now.
        if not asked and (pid := Status.load(layout.status).pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The stack of {layout.root} does not stop.", remedy="See the log.", log=layout.log("supervisor")
            )
        time.sleep(POLL_S)
    return True


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Give what the operating system or the database refuses a folder and a remedy."""
    try:
        yield
    except (OSError, subprocess.SubprocessError, psycopg.Error) as exc:
        raise EmbeddedError(
            f"The stack of {root} failed: {type(exc).__name__}: {exc}.",
            remedy="Check free space, the rights on the folder, and that you are the user who made it.",
        ) from exc


@contextlib.contextmanager
def _turn(layout: Layout) -> Iterator[None]:
    try:
        with locked(layout.start_lock, timeout_s=2 * ATTACH_TIMEOUT_S):
            yield
    except TimeoutError as exc:
        raise EmbeddedError(f"{exc}.", remedy="Another start or stop of this stack hangs; end it first.") from exc


def _absolute(root: Path) -> Path:
    return root.expanduser().resolve()


def _stack(layout: Layout, state: State) -> Stack:
    dagster = cluster.url(state, user="dagster", database="dagster")
    return Stack(
        root=layout.root,
        api_url=None if state.api_missing else f"http://127.0.0.1:{state.api_port}",
        api_missing=state.api_missing,
        dsn=cluster.url(state),
        service_role_key=api.service_role_key(state.jwt_secret),
        jwt_secret=state.jwt_secret,
        dagster_dsn=dagster.replace("postgresql://", "postgresql+psycopg2://"),  # without a driver SQLAlchemy guesses
    )
