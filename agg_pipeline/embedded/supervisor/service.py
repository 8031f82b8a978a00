"""One service: a child process that is restarted when it ends without an order."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from .protocol import ServiceOrder, ServiceStatus

PR_SET_PDEATHSIG = 1
SHORTEST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class Service:
    """A service with its process and the time of its next start."""

    def __init__(self, order: ServiceOrder) -> None:
        """Plan the first start for now."""
        self.order = order
        self.process: subprocess.Popen[bytes] | None = None
        self.next_start: float | None = time.monotonic()  # None while it runs, and after a stop
        self._deaths = 0
        self._short_lives = 0  # in a row
        self._started = 0.0
        self._pause_s = SHORTEST_PAUSE_S

    def status(self) -> ServiceStatus:
        """What the status file says about it."""
        return ServiceStatus(self.process.pid if self.process else 0, self._deaths, self._is_given_up())

    def start(self) -> None:
        """Run the program with the user, environment and log of the order."""
        order = self.order
        self._started, self.next_start = time.monotonic(), None
        groups: list[int] | None = None if order.uid is None else []  # root's supplementary groups are not passed on
        with open(order.log, "ab") as log:
            try:
                self.process = subprocess.Popen(
                    order.argv,
                    env=order.env,
                    cwd=order.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=order.uid,
                    group=order.gid,
                    extra_groups=groups,
                    start_new_session=order.has_children,
                    preexec_fn=_die_with_supervisor(order.stop_signal),  # safe: this process has one thread
                )
            except OSError as exc:
                log.write(f"{order.argv[0]} could not be run: {exc}\n".encode())
                self._plan_restart()

    def reap(self) -> bool:
        """Collect a process that has ended and plan the restart; True if it had ended."""
        if self.process is None or self.process.poll() is None:
            return False
        write_log(f"{self.order.name} pid {self.process.pid} ended with {self.process.returncode}")
        self.process = None
        self._plan_restart()
        return True

    def stop(self) -> None:
        """Send the stop signal, and SIGKILL after the grace period. PostgreSQL recovers from it as from a power cut."""
        self.next_start = None
        process, self.process = self.process, None
        if process is None:
            return
        self._signal(process, self.order.stop_signal)
        try:
            process.wait(self.order.grace_s)
        except subprocess.TimeoutExpired:
            write_log(f"{self.order.name} pid {process.pid} did not end in {self.order.grace_s} s: killed")
            self._signal(process, signal.SIGKILL)
            process.wait()
        if self.order.has_children:
            self._signal(process, signal.SIGKILL)  # to children that outlived it

    def _plan_restart(self) -> None:
        """Restart soon after a steady life; double the pause after a short one, so a broken service costs little."""
        now = time.monotonic()
        self._deaths += 1
        if now - self._started < self.order.steady_s:
            self._short_lives += 1
            self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        else:
            self._short_lives = 0
            self._pause_s = SHORTEST_PAUSE_S
        if self._is_given_up():
            write_log(f"{self.order.name} is given up after {self._short_lives} short lives in a row")
        else:
            self.next_start = now + self._pause_s

    def _is_given_up(self) -> bool:
        return self.order.max_short_lives is not None and self._short_lives >= self.order.max_short_lives

    def _signal(self, process: subprocess.Popen[bytes], number: int) -> None:
        if self.order.has_children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def write_log(text: str) -> None:
    """One line in the supervisor's log, which is its standard error. A full disk loses the line, not the supervisor."""
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)


def _die_with_supervisor(signum: int) -> Callable[[], None] | None:
    """Hook for the child: have the kernel signal it when the supervisor is killed with SIGKILL (Linux only).

    It runs after the change of user, which would clear the setting, and before the program. The signal fires when the
    *thread* that started the child ends; the supervisor has only one.
    """
    if sys.platform != "linux":
        return None
    prctl, supervisor = ctypes.CDLL(None).prctl, os.getpid()

    def hook() -> None:
        prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != supervisor:  # the supervisor ended before the call above
            os._exit(1)

    return hook
