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


@command("down")
def down(root: Root = ROOT) -> None:
    """Stop what `up` started, from another terminal."""
    holder = holder_of(root)
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(str(holder["pid"])), signal.SIGTERM)
        deadline = time.monotonic() + 60
        while holder_of(root) is not None:
            if time.monotonic() > deadline:
                raise CommandError(f"Process {holder['pid']} did not stop within 60 s; look at {root / 'logs'}.")
            time.sleep(0.2)
    stopped = stop(root)
    console.print("Stopped." if holder or stopped else f"Nothing runs in {root}.")
