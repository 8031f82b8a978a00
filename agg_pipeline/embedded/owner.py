"""The owner's end of the supervisor: start it, send orders, let it go. Which stacks this process owns."""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from agg_pipeline.embedded.files import Layout

SCRIPT = Path(__file__).with_name("supervise.py")
_owned: dict[Path, "Supervisor"] = {}  # kept for the life of the process: losing the pipe would stop the servers
_guard = threading.Lock()


class Supervisor:
    """A running supervisor whose stdin we hold; when it closes, the servers stop."""

    def __init__(self, layout: Layout, *, remove: bool) -> None:
        """Start it in a session of its own, so that Ctrl-C in a terminal reaches the owner only.

        Args:
            layout: the stack's folder.
            remove: have it delete the folder at the end, which works even if we are killed.
        """
        self._pid = os.getpid()
        argv = [sys.executable, "-I", "-S", str(SCRIPT), str(layout.root), str(self._pid)]
        argv += ["--remove"] if remove else []
        reader, writer = os.pipe()
        try:
            with layout.log("supervisor").open("ab") as log:
                self._process = subprocess.Popen(
                    argv, stdin=reader, stdout=log, stderr=log, cwd="/", start_new_session=True
                )
        except OSError:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        self._orders = writer

    def order(self, **line: object) -> None:
        """Send one order; a supervisor that is gone is noticed by whoever waits for the result."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, json.dumps(line).encode() + b"\n")

    def has_ended(self) -> bool:
        """Whether it is gone; collects the zombie."""
        return self._process.poll() is not None

    def let_go(self, timeout_s: float = 90.0) -> None:
        """Close the pipe and wait until the servers are down. A forked copy of the owner has no say."""
        if os.getpid() != self._pid:
            return
        os.close(self._orders)
        self._process.wait(timeout_s)


def own(root: Path, supervisor: Supervisor) -> None:
    """Remember that this process keeps the stack alive."""
    with _guard:
        _owned[root] = supervisor


def disown(root: Path) -> None:
    """Let go of a stack, if it is ours."""
    with _guard:
        supervisor = _owned.pop(root, None)
    if supervisor is not None:
        supervisor.let_go()


@atexit.register
def _let_go_of_all() -> None:
    # The closing pipe would do it too, but then the servers would still be stopping when the command has returned.
    for root in list(_owned):
        disown(root)
