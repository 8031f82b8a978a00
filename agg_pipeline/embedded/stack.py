"""A stack on this machine: start it, attach to it, stop it."""

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

from agg_pipeline.embedded import postgres, postgrest
from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import POLL_S, Layout, State, is_locked, locked
from agg_pipeline.embedded.launch import launch_database
from agg_pipeline.embedded.supervisor.client import STOP_TIMEOUT_S, SupervisorClient
from agg_pipeline.embedded.supervisor.protocol import Status

ATTACH_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Stack:
    """A running database with its REST API. Secrets are left out of the repr, so that no log and no test shows them."""

    root: Path
    api_url: str | None  # of PostgREST itself, without /rest/v1; None if there is no PostgREST
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


@contextlib.contextmanager
def supervised(root: Path, *, database: bool = True) -> Iterator[tuple[SupervisorClient, Stack | None]]:
    """A supervisor for the services of a folder, with or without the database; all of them stop when the block ends.

    They also stop when this process ends in any other way.

    Raises:
        EmbeddedError: the database does not start, or another process runs the services of this folder.
    """
    layout = Layout.of(root)
    with contextlib.ExitStack() as owned:
        with _errors_explained(layout), _start_lock(layout):
            if _attach(layout) is not None:
                raise EmbeddedError(
                    f"Another process runs the stack of {layout.root}.", remedy="Stop it with `agg-pipeline down`."
                )
            supervisor = owned.enter_context(contextlib.closing(SupervisorClient(layout)))
            stack = _launch(supervisor, durable=True) if database else None
            supervisor.mark_ready()
        yield supervisor, stack


@contextlib.contextmanager
def started(root: Path, *, durable: bool = True) -> Iterator[Stack]:
    """The database of a folder, started or, if it runs, attached to.

    The process that starts it owns it: the servers stop when the block ends or the process ends in any other way. A
    process that attaches does not keep them running.

    Args:
        root: folder, made if missing. Data, secrets and ports in it survive.
        durable: False turns fsync off, for tests and demonstrations: a power cut may then destroy the data.
    """
    layout = Layout.of(root)
    with contextlib.ExitStack() as owned:
        with _errors_explained(layout), _start_lock(layout):
            stack = _attach(layout)
            if stack is None:
                supervisor = owned.enter_context(contextlib.closing(SupervisorClient(layout)))
                stack = _launch(supervisor, durable=durable)
                supervisor.mark_ready()
        yield stack


@contextlib.contextmanager
def temporary() -> Iterator[Stack]:
    """A stack in a temporary folder, not durable; stopped and removed at the end, also if this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="agg-pipeline-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)  # the unprivileged user that runs PostgreSQL must pass it
    layout = Layout.of(folder)
    try:
        with contextlib.ExitStack() as owned:
            with _errors_explained(layout), _start_lock(layout):
                supervisor = owned.enter_context(contextlib.closing(SupervisorClient(layout, remove=True)))
                stack = _launch(supervisor, durable=False)
                supervisor.mark_ready()
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # still there if the start failed before the supervisor's


def running(root: Path) -> Stack | None:
    """The stack of a folder, whoever owns it; None if it does not run or does not answer."""
    layout = Layout.of(root)
    with _errors_explained(layout):
        state = State.load(layout.state)
        if state is None or not is_locked(layout.supervisor_lock):
            return None
        status = Status.load(layout.status)
        is_up = status.ready and not status.stopping and "postgres" in status.services
        return _stack(layout, state) if is_up and postgres.answers(state) else None


def stop(root: Path) -> bool:
    """Stop all services of a folder, whoever owns them, and wait until they have ended; False if none ran."""
    layout = Layout.of(root)
    if not layout.start_lock.exists():
        return False
    with _errors_explained(layout), _start_lock(layout):
        stopped = _stop_supervisor(layout)
        return postgres.stop_orphan(layout.data) or stopped


def _launch(supervisor: SupervisorClient, *, durable: bool) -> Stack:
    """Start the database under a new supervisor. The caller holds the start lock."""
    return _stack(supervisor.layout, launch_database(supervisor, durable=durable))


def _attach(layout: Layout) -> Stack | None:
    """The stack of a running supervisor, once it answers; None if there is no supervisor or it ends meanwhile."""
    began = time.monotonic()
    while is_locked(layout.supervisor_lock):
        state, status = State.load(layout.state), Status.load(layout.status)
        if status.ready and not status.stopping and "postgres" not in status.services:
            raise EmbeddedError(
                f"Process {status.pid} runs services without a database in {layout.root}.",
                remedy="Stop it with `agg-pipeline down`.",
            )
        stack = running(layout.root) if state is not None else None
        if stack is not None and state is not None and (stack.api_url is None or postgrest.is_ready(state)):
            return stack
        waited_s = time.monotonic() - began
        if waited_s > (STOP_TIMEOUT_S if status.stopping else ATTACH_TIMEOUT_S):
            silent = "postgres" if state is None or not postgres.answers(state) else "postgrest"
            raise EmbeddedError(
                f"The stack of {layout.root} runs, but {silent} has not answered for {waited_s:.0f} s.",
                remedy="Stop it with `agg-pipeline down` and start again.",
                log=layout.log(silent),
            )
        time.sleep(POLL_S)
    return None


def _stop_supervisor(layout: Layout) -> bool:
    """Signal the supervisor and wait for its end; False if there is none."""
    if not is_locked(layout.supervisor_lock):
        return False
    deadline = time.monotonic() + STOP_TIMEOUT_S
    signalled = False
    while is_locked(layout.supervisor_lock):
        # The holder of the lock wrote this pid and still holds the lock, so no other process can have the pid.
        if not signalled and (pid := Status.load(layout.status).pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            signalled = True
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"The stack of {layout.root} does not stop.", remedy="See the log.", log=layout.log("supervisor")
            )
        time.sleep(POLL_S)
    return True


@contextlib.contextmanager
def _errors_explained(layout: Layout) -> Iterator[None]:
    """Turn errors of the operating system and the database into EmbeddedError with folder and remedy."""
    try:
        yield
    except (OSError, subprocess.SubprocessError, psycopg.Error) as exc:
        raise EmbeddedError(
            f"The stack of {layout.root} failed: {type(exc).__name__}: {exc}.",
            remedy="Check free space, the rights on the folder, and that you are the user who made it.",
        ) from exc


@contextlib.contextmanager
def _start_lock(layout: Layout) -> Iterator[None]:
    """Make the folder and hold its start lock."""
    if sys.platform == "win32":
        raise EmbeddedError("The embedded stack needs Linux or macOS.", remedy="Use WSL, or a Supabase project.")
    layout.make()
    try:
        with locked(layout.start_lock, timeout_s=STOP_TIMEOUT_S):
            yield
    except TimeoutError as exc:
        raise EmbeddedError(f"{exc}.", remedy="Another start or stop of this stack hangs; end it first.") from exc


def _stack(layout: Layout, state: State) -> Stack:
    dagster = postgres.url(state, user="dagster", database="dagster")
    return Stack(
        root=layout.root,
        api_url=None if state.api_missing else f"http://127.0.0.1:{state.api_port}",
        api_missing=state.api_missing,
        dsn=postgres.url(state),
        service_role_key=postgrest.service_role_key(state.jwt_secret),
        jwt_secret=state.jwt_secret,
        dagster_dsn=dagster.replace("postgresql://", "postgresql+psycopg2://"),  # without a driver SQLAlchemy guesses
    )
