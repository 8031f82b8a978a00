"""The supervisor's loop: it carries out orders, restarts services that end, and writes the status file."""

import json
import os
import select
import time
from pathlib import Path

from .orphans import kill_orphans, reap_orphans
from .protocol import ServiceOrder, Status
from .service import LONGEST_PAUSE_S, Service, write_log


class Supervisor:
    """The services in the order of their start, and what the owner has ordered."""

    def __init__(self, root: Path) -> None:
        """Start without services.

        Args:
            root: folder of the status file.
        """
        self.stopping = False
        self._root = root
        self._services: dict[str, Service] = {}
        self._orders = 0
        self._ready = False
        self._reported = False
        self._received = b""  # start of an order whose end has not arrived

    def run(self, orders: int, wakeup: int, owner: list[int]) -> None:
        """Work until the owner ends or ``stopping`` is set.

        Args:
            orders: descriptor of the orders; its end of file reports the end of the owner.
            wakeup: descriptor that becomes readable when a signal arrives (non-blocking).
            owner: descriptors that become readable when the owner ends.
        """
        self._report()
        while not self.stopping:
            readable, _, _ = select.select([orders, wakeup, *owner], [], [], self._wait_s())
            changed = bool(readable) or not self._reported
            if wakeup in readable:
                os.read(wakeup, 65536)
            received = os.read(orders, 65536) if orders in readable else None
            if received == b"" or not set(readable).isdisjoint(owner):
                write_log("stops: the owner has ended, or has closed its end of the orders")
                self.stopping = True
            elif received is not None:
                self._carry_out(received)
            changed |= self._restart()
            if changed:
                self._report()

    def stop(self) -> None:
        """Stop the services, the last started first: clients let go of their connections before PostgreSQL stops."""
        self.stopping = True
        self._report()
        for service in reversed(self._services.values()):
            service.stop()
        kill_orphans()
        (self._root / "status.json").unlink(missing_ok=True)

    def _carry_out(self, received: bytes) -> None:
        *lines, self._received = (self._received + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "run" in order:
                run = ServiceOrder(**order["run"])
                if replaced := self._services.pop(run.name, None):
                    replaced.stop()
                self._services[run.name] = Service(run)
            self._ready = order.get("ready", self._ready)
            self._orders += 1

    def _restart(self) -> bool:
        """Collect what has ended and start what is due; True if anything changed."""
        changed = False
        for service in self._services.values():
            changed |= service.reap()
            if service.next_start is not None and service.next_start <= time.monotonic() and not self.stopping:
                service.start()
                changed = True
        reap_orphans([service.process.pid for service in self._services.values() if service.process])
        return changed

    def _wait_s(self) -> float | None:
        """Seconds until the next start or the next try to write the status; None: until something happens."""
        starts = [service.next_start for service in self._services.values() if service.next_start is not None]
        waits = [start - time.monotonic() for start in starts] + ([] if self._reported else [LONGEST_PAUSE_S])
        return max(0.0, min(waits)) if waits else None

    def _report(self) -> None:
        """Replace the status file in one step. If the disk is full, the loop tries again later."""
        services = {name: service.status() for name, service in self._services.items()}
        status = Status(os.getpid(), self._orders, self._ready, self.stopping, services)
        draft = self._root / ".status.json"
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(status.dump())
            draft.replace(self._root / "status.json")
            self._reported = True
        except OSError:
            self._reported = False
