"""The supervisor process from its start to its end: signals, the lock, the owner, the loop."""

import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from .loop import Supervisor
from .orphans import adopt_orphans
from .service import write_log

LOCK_TIMEOUT_S = 2.0


def main() -> None:
    """Keep the services running until the owner ends or a signal orders the stop."""
    root, owner, remove = Path(sys.argv[1]), int(sys.argv[2]), "--remove" in sys.argv[3:]
    supervisor = Supervisor(root)
    wakeup = _handle_signals(supervisor)
    _hold(root / "supervisor.lock")
    adopt_orphans()
    write_log(f"started by process {owner}")
    try:
        supervisor.run(sys.stdin.fileno(), wakeup, _watch_owner(owner))
    finally:
        supervisor.stop()
        if remove:
            shutil.rmtree(root, ignore_errors=True)


def _handle_signals(supervisor: Supervisor) -> int:
    """Stop on SIGTERM, SIGINT and SIGHUP; a descriptor that becomes readable at these and when a child ends."""
    wakeup, write_end = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)

    def stop(signum: int, _frame: object) -> None:
        supervisor.stopping = True

    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, stop)
    signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)  # without a handler it would not wake the loop
    return wakeup


def _hold(lock: Path) -> None:
    """Hold the lock for the life of the process. A process that only tests it may have it for a moment."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _watch_owner(pid: int) -> list[int]:
    """A descriptor that becomes readable when the owner ends, though a forked child of it may hold our stdin open."""
    try:
        return [os.pidfd_open(pid)] if sys.platform == "linux" else []
    except OSError:  # an old kernel, or the owner has ended: standard input then reports it
        return []
