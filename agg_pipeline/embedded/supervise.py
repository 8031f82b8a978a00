"""The process that keeps the servers, and ends them when their owner ends.

Run as a script, never imported by the package: ``python -I -S supervise.py ROOT OWNER_PID [--remove]``. It uses the
standard library only, so that it starts in 50 ms whatever the owner's import path. Orders are JSON lines on stdin:
``{"run": {name, argv, env, uid, gid, log, stop, grace_s}}`` starts or replaces a server, ``{"ready": true}`` is passed
on to the status.

Why a process between owner and servers: end of file on stdin tells that the owner is gone, kill -9 included, on every
POSIX system. A parent-death signal straight from the owner would fire when the *thread* that started the servers ends.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
LONGEST_PAUSE_S = 2.0
STEADY_S = 5.0  # a server that lived this long starts again at once


class Server:
    """One child, started again whenever it dies unasked."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Keep the order; nothing runs yet."""
        self.order = order
        self.deaths = 0
        self.pause_s = 0.1
        self.started = 0.0
        self.due: float | None = time.monotonic()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the program under the ordered user, in no terminal's reach."""
        order = self.order
        self.started, self.due = time.monotonic(), None
        groups: list[int] | None = None if order["uid"] is None else []  # without root's own groups
        with open(order["log"], "ab") as log:
            try:
                self.process = subprocess.Popen(
                    order["argv"],
                    env=order["env"],
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=order["uid"],
                    group=order["gid"],
                    extra_groups=groups,
                    preexec_fn=die_with_parent(order["stop"]),  # safe: this process has one thread
                )
            except OSError as exc:
                log.write(f"{order['argv'][0]} could not be run: {exc}\n".encode())
                self.died()

    def reap(self) -> bool:
        """Notice a death and plan the next start; True if there was one."""
        if self.process is None or self.process.poll() is None:
            return False
        say(f"{self.order['name']} pid {self.process.pid} ended with {self.process.returncode}")
        self.process = None
        self.died()
        return True

    def died(self) -> None:
        """Plan the next start: soon at first, then ever later, so that a hopeless one costs nothing."""
        now = time.monotonic()
        self.deaths += 1
        self.pause_s = 0.1 if now - self.started > STEADY_S else min(self.pause_s * 2, LONGEST_PAUSE_S)
        self.due = now + self.pause_s

    def stop(self) -> None:
        """Ask once, then insist. PostgreSQL recovers from SIGKILL by itself, as from a power cut."""
        self.due = None
        if self.process is None:
            return
        self.process.send_signal(self.order["stop"])
        try:
            self.process.wait(self.order["grace_s"])
        except subprocess.TimeoutExpired:
            say(f"{self.order['name']} pid {self.process.pid} did not end in {self.order['grace_s']} s: killed")
            self.process.kill()
            self.process.wait()
        self.process = None


class Supervisor:
    """Servers in the order of their start, the orders still to read, and the status file."""

    def __init__(self, root: Path) -> None:
        """Start with no servers."""
        self.root = root
        self.servers: dict[str, Server] = {}
        self.ready = self.stopping = self.reported = False
        self.unread = b""

    def obey(self, received: bytes) -> None:
        """Carry out the complete lines, keep the rest."""
        *lines, self.unread = (self.unread + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "run" in order:
                name = order["run"]["name"]
                if name in self.servers:
                    self.servers.pop(name).stop()
                self.servers[name] = Server(order["run"])
            self.ready = order.get("ready", self.ready)

    def report(self) -> None:
        """Tell whoever attaches; written beside and moved, so that nobody reads half of it. A full disk can wait."""
        status = {
            "pid": os.getpid(),
            "ready": self.ready,
            "stopping": self.stopping,
            "servers": {
                name: {"pid": server.process.pid if server.process else 0, "deaths": server.deaths}
                for name, server in self.servers.items()
            },
        }
        draft = self.root / ".status.json"
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(status, file)
            draft.replace(self.root / "status.json")
            self.reported = True
        except OSError:
            self.reported = False

    def watch(self, wakeups: list[int]) -> None:
        """Sleep until there is an order, a signal, a death or a start that is due; end with the owner."""
        self.report()
        while not self.stopping:
            due = [server.due for server in self.servers.values() if server.due is not None]
            wait_s = max(0.0, min(due) - time.monotonic()) if due else None
            if not self.reported:
                wait_s = LONGEST_PAUSE_S if wait_s is None else min(wait_s, LONGEST_PAUSE_S)
            readable, _, _ = select.select(wakeups, [], [], wait_s)
            for descriptor in readable:
                received = b"" if descriptor not in wakeups[:2] else os.read(descriptor, 65536)
                if descriptor != wakeups[1] and not received:
                    say("the owner is gone")
                    self.stopping = True
                elif descriptor == wakeups[0]:
                    self.obey(received)
            changed = bool(readable) or not self.reported
            for server in self.servers.values():
                changed |= server.reap()
                if server.due is not None and server.due <= time.monotonic() and not self.stopping:
                    server.start()
                    changed = True
            if changed:
                self.report()

    def stop(self) -> None:
        """End the servers, last started first: PostgREST lets go of its connections before PostgreSQL goes."""
        self.stopping = True
        self.report()
        for server in reversed(self.servers.values()):
            server.stop()
        (self.root / "status.json").unlink(missing_ok=True)


def die_with_parent(signum: int) -> Callable[[], None] | None:
    """A hook for the child, between its change of user (which would clear it) and its program. Linux only.

    For the supervisor's own kill -9: it has one thread, so here the thread's death is the process's.
    """
    if sys.platform != "linux":
        return None
    prctl, supervisor = ctypes.CDLL(None).prctl, os.getpid()

    def hook() -> None:
        prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != supervisor:  # died before the call above
            os._exit(1)

    return hook


def hold(lock: Path) -> int:
    """Take the lock that says "alive". Someone who only looks whether it is held may have it for a moment."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + 2.0
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def owner_watch(pid: int) -> list[int]:
    """A descriptor that becomes readable when the owner ends, though a forked child of it may keep our stdin open."""
    try:
        return [os.pidfd_open(pid)] if sys.platform == "linux" else []
    except OSError:  # old kernel, or gone already: then stdin is at its end
        return []


def say(text: str) -> None:
    """One line in the supervisor's log, which is our stderr; none on a full disk, which is no reason to end."""
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)


def main() -> None:
    """Keep the servers until the owner ends or a signal asks to stop."""
    root, owner, remove = Path(sys.argv[1]), int(sys.argv[2]), "--remove" in sys.argv[3:]
    supervisor = Supervisor(root)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)

    def ask_to_stop(signum: int, _frame: object) -> None:
        supervisor.stopping = True

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, ask_to_stop)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)  # only its wake-up is wanted
    hold(root / "supervisor.lock")
    try:
        supervisor.watch([sys.stdin.fileno(), woken, *owner_watch(owner)])
    finally:
        supervisor.stop()
        if remove:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
