"""Processes that a service started and left behind when it was killed: they become children of the supervisor (Linux).

A code server that is killed leaves its gRPC server and its run workers. A run worker may finish its run; whatever
is left when the supervisor stops is killed, so that nothing outlives `agg-pipeline up`.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends; otherwise process 1 would be."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans(services: Collection[int]) -> None:
    """Collect orphans that have ended. Processes of services, given by pid, are left to their services."""
    for pid in _children():
        if pid not in services:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def kill_orphans() -> None:
    """Kill every remaining child and its descendants. The services have been stopped before."""
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _children() -> list[int]:
    """Pids of this process's children; none where the kernel does not list them."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []
