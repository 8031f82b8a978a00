"""The owner's side of the supervisor: start it, send orders, read its status, stop it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import POLL_S, Layout, prepare_log
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder, Status

PROGRAM = Path(__file__).parent
ORDER_TIMEOUT_S = 60.0
# Services stop one after the other: Dagster's three within 20 s each, PostgREST within 3 s, PostgreSQL within 60 s.
STOP_TIMEOUT_S = 150.0


class SupervisorClient:
    """A running supervisor that this process owns: its services stop when this process ends, however it ends."""

    def __init__(self, layout: Layout, *, remove: bool = False) -> None:
        """Start the supervisor in a session of its own, so that Ctrl-C in a terminal reaches the owner only.

        Args:
            layout: folder of the services; no other supervisor may run in it.
            remove: have the supervisor delete the folder at the end, which works even if this process is killed.
        """
        self.layout = layout
        self._owner = os.getpid()
        self._orders = 0
        self._deaths: dict[str, int] = {}
        layout.status.unlink(missing_ok=True)  # that of a killed supervisor: another process may have its pid now
        argv = [sys.executable, "-I", "-S", str(PROGRAM), str(layout.root), str(self._owner)]
        argv += ["--remove"] if remove else []
        reader, writer = os.pipe()
        self._pipe = os.fdopen(writer, "wb")
        with open(reader, "rb") as stdin, prepare_log(layout.log("supervisor")).open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=stdin, stdout=log, stderr=log, cwd="/", start_new_session=True)

    def status(self) -> Status:
        """The supervisor's last report."""
        return Status.load(self.layout.status)

    def has_ended(self) -> bool:
        """Whether the supervisor has ended, and its services with it."""
        return self._process.poll() is not None

    def run(self, order: ServiceOrder) -> None:
        """Start a service, or replace the one of that name. Raises EmbeddedError if the supervisor has ended."""
        self._deaths[order.name] = 0
        self._send({"run": asdict(order)})

    def mark_ready(self) -> None:
        """Report to other processes that everything has been started. Raises EmbeddedError like ``run``."""
        self._send({"ready": True})

    def wait_until_ready(
        self,
        service: str,
        is_ready: Callable[[], bool],
        *,
        timeout_s: float,
        max_deaths: int,
        may_recover: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until a service that was ordered answers.

        Args:
            max_deaths: fail when it has ended this often, unless ``may_recover`` says that the cause will pass.

        Raises:
            EmbeddedError: it keeps ending, does not answer within ``timeout_s``, or the supervisor has ended.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            self._check_alive()
            status = self.status().services.get(service)
            if status is not None and status.deaths >= max_deaths and not may_recover():
                raise self._error(service, "did not start: the process ended.")
            if time.monotonic() > deadline:
                raise self._error(service, f"did not start: no answer for {timeout_s:.0f} s.")
            time.sleep(POLL_S)

    def restarted(self) -> list[str]:
        """Names of the services that ended by themselves since the last call and run again.

        Raises:
            EmbeddedError: a service was given up, or the supervisor has ended.
        """
        self._check_alive()
        names = []
        for name, service in self.status().services.items():
            if service.given_up:
                raise self._error(name, "ends again and again and was given up.")
            if service.pid and service.deaths > self._deaths.get(name, 0):
                self._deaths[name] = service.deaths
                names.append(name)
        return names

    def close(self) -> None:
        """Stop all services and wait until they have ended. Raises EmbeddedError after STOP_TIMEOUT_S.

        In a forked child of the owner it does nothing.
        """
        if os.getpid() != self._owner:
            return
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._error("supervisor", f"did not stop within {STOP_TIMEOUT_S:.0f} s.") from None

    def _send(self, order: dict[str, object]) -> None:
        """Send an order and wait until it has been carried out; the status is then that of the new service."""
        self._orders += 1
        with contextlib.suppress(BrokenPipeError):  # the supervisor has ended, which is noticed below
            self._pipe.write(json.dumps(order).encode() + b"\n")
            self._pipe.flush()
        deadline = time.monotonic() + ORDER_TIMEOUT_S
        while self.status().orders < self._orders:
            self._check_alive()
            if time.monotonic() > deadline:
                raise self._error("supervisor", f"did not carry out an order within {ORDER_TIMEOUT_S:.0f} s.")
            time.sleep(POLL_S)

    def _check_alive(self) -> None:
        if self.has_ended():
            raise self._error("supervisor", "ended: it was stopped by another process, or killed.")

    def _error(self, service: str, what: str) -> EmbeddedError:
        log = self.layout.log(service)
        return EmbeddedError(f"{service} of {self.layout.root} {what}", remedy=f"See {log}.", log=log)
