"""What the owner and the supervisor exchange: orders as JSON lines on standard input, the status as a file.

An order is ``{"run": {fields of ServiceOrder}}``, which starts a service or replaces the one of that name, or
``{"ready": true}``, which is passed on to the status. Standard library only, because the supervisor process imports
it.
"""

import json
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ServiceOrder:
    """A service to run.

    Attributes:
        name: unique per supervisor; also the name of the log file.
        argv: command line. Every user of the machine can read it, so it holds no secret.
        env: the complete environment. Secrets go to a service this way and no other.
        log: file that receives standard output and standard error.
        grace_s: seconds between ``stop_signal`` and SIGKILL.
        uid, gid: run as this user and group, without supplementary groups; None keeps the supervisor's.
        has_children: run in a process group of its own, and signal the whole group at the stop.
        steady_s: a life shorter than this is short: the next restart waits longer.
        max_short_lives: give the service up after this many short lives in a row; None restarts it for ever.
    """

    name: str
    argv: list[str]
    env: dict[str, str] = field(repr=False)
    log: str
    grace_s: float
    stop_signal: int = int(signal.SIGTERM)
    uid: int | None = None
    gid: int | None = None
    cwd: str = "/"
    has_children: bool = False
    steady_s: float = 5.0
    max_short_lives: int | None = None


@dataclass(frozen=True)
class ServiceStatus:
    """One service: its pid (0 while it does not run), how often it ended without an order, and if it was given up."""

    pid: int = 0
    deaths: int = 0
    given_up: bool = False


@dataclass(frozen=True)
class Status:
    """The supervisor's report. Valid only while the supervisor holds its lock.

    Attributes:
        orders: how many orders have been carried out, so that the owner can tell whether the report is current.
        ready: the owner has started everything.
    """

    pid: int = 0
    orders: int = 0
    ready: bool = False
    stopping: bool = False
    services: dict[str, ServiceStatus] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Status":
        """The last report; an empty one if there is none or it is not readable."""
        try:
            values = json.loads(path.read_text())
            services = {name: ServiceStatus(**service) for name, service in values.pop("services").items()}
            return cls(**values, services=services)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def dump(self) -> str:
        """The report as JSON, for ``load``."""
        return json.dumps(asdict(self))
