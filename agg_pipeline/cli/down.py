"""The command down."""

import contextlib
import os
import signal
import time

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.instance_lock import holder_of
from agg_pipeline.cli.target import ROOT
from agg_pipeline.cli.up import Root
from agg_pipeline.embedded import stop
from agg_pipeline.embedded.files import Layout
from agg_pipeline.embedded.supervisor.client import STOP_TIMEOUT_S

POLL_S = 0.2


@command("down")
def down(root: Root = ROOT) -> None:
    """Stop what `up` started, from another terminal."""
    holder = holder_of(root)
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(str(holder["pid"])), signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while holder_of(root) is not None:
            if time.monotonic() > deadline:
                raise CommandError(
                    f"Process {holder['pid']} did not stop within {STOP_TIMEOUT_S:.0f} s; see the logs in "
                    f"{Layout.of(root).logs}."
                )
            time.sleep(POLL_S)
    stopped = stop(root)
    console.print("Stopped." if holder or stopped else f"Nothing runs in {root}.")
