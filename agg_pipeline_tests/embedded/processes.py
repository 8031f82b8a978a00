"""What the tests need to know of processes and ports: who serves a folder, who is dead, an owner to kill."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx
import psycopg

from agg_pipeline import embedded
from agg_pipeline.embedded.files import Layout
from agg_pipeline.embedded.supervisor.protocol import Status

REPOSITORY = Path(__file__).parents[2]
OWN_UNTIL_KILLED = """
import contextlib, sys, threading, pathlib
from agg_pipeline import embedded
stack = embedded.started(pathlib.Path(sys.argv[1]), durable=False)
with contextlib.ExitStack() as exits:
    starter = threading.Thread(target=exits.enter_context, args=(stack,))
    starter.start()
    starter.join()  # the thread that started the servers is gone, and they must not go with it
    print("up", flush=True)
    sys.stdin.read()
"""


class Starter:
    """Starts the stack of a folder as often as a test wants; what it started stops with it."""

    def __init__(self, exits: contextlib.ExitStack) -> None:
        self._exits = exits

    def __call__(self, root: Path, *, durable: bool = False) -> embedded.Stack:
        return self._exits.enter_context(embedded.started(root, durable=durable))


class OwnerProcess:
    """A process that starts a stack in a thread and holds it until it is killed or told to end."""

    def __init__(self, root: Path) -> None:
        """Start it and wait until its stack is up."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_UNTIL_KILLED, str(root)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "up\n"

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, if a test has not done so."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def pids(root: Path) -> dict[str, int]:
    """Pids of supervisor, postgres and postgrest, as the supervisor reports them, and of PostgreSQL's own processes."""
    status = Status.load(Layout(root.resolve()).status)
    found = {"supervisor": status.pid} | {name: service.pid for name, service in status.services.items()}
    if "postgres" in found:
        found |= {f"postgres child {pid}": pid for pid in children(found["postgres"])}
    return found


def children(pid: int) -> list[int]:
    """Pids of a process's children; none where the system does not list them."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody collects does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def crash(root: Path, random: Random, *, whole: bool) -> None:
    """kill -9 of PostgreSQL or of one of its processes, with which it ends too; return when it has ended."""
    found = pids(root)
    parts = [pid for name, pid in found.items() if name.startswith("postgres child")]
    while is_alive(found["postgres"]):
        with contextlib.suppress(ProcessLookupError):  # a session that has ended by itself: then another one
            os.kill(found["postgres"] if whole or not parts else random.choice(parts), signal.SIGKILL)
        time.sleep(0.05)


def wait_until(true: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Poll; fail with a traceback into the test if it never comes true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"not true after {timeout_s} s"
        time.sleep(0.02)


def wait_until_gone(processes: dict[str, int]) -> None:
    """Wait until none of them is alive; name the survivors."""
    deadline = time.monotonic() + 30.0
    while survivors := {name for name, pid in processes.items() if is_alive(pid)}:
        assert time.monotonic() < deadline, f"still alive: {survivors}"
        time.sleep(0.02)


def listens(url: str) -> bool:
    """Whether something accepts connections at the port of a URL."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def remember(stack: embedded.Stack, fact: str) -> None:
    """Commit a fact to the database."""
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        connection.execute("create table if not exists facts (fact text)")
        connection.execute("insert into facts values (%s)", [fact])


def remembers(stack: embedded.Stack, fact: str) -> bool:
    """Whether a committed fact is still there."""
    with psycopg.connect(stack.dsn) as connection:
        return connection.execute("select from facts where fact = %s", [fact]).fetchone() is not None


def api_answers(stack: embedded.Stack) -> bool:
    """Whether PostgREST serves the service role; true where there is no PostgREST to ask."""
    if stack.api_url is None:
        return True
    headers = {"Authorization": f"Bearer {stack.service_role_key}"}
    return httpx.get(stack.api_url, headers=headers, trust_env=False).status_code == 200


def kill_all(processes: dict[str, int]) -> None:
    """kill -9 of each at the same moment: stopped first, so that none sees another one die."""
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for pid in processes.values():
            os.kill(pid, signum)


def run_python(code: str, *arguments: str) -> object:
    """Run code in another process; what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60
    )
    return json.loads(done.stdout)
