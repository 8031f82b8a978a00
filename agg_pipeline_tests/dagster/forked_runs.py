"""For the definitions that tests serve: a run is a fork of a process that has imported everything.

It is still a process of its own, with a pid to kill. A fresh one, which Dagster starts for each run, spends four fifths
of its time with imports.
"""

import multiprocessing
from multiprocessing import forkserver


def fork_runs() -> None:
    """Have the code server that imports the definitions fork its runs."""
    if multiprocessing.parent_process() is not None:
        return  # a run, which imports the definitions too
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["agg_pipeline.definitions", "dagster_postgres"])
    forkserver.ensure_running()  # now, while Dagster's other processes start, and not when the first run waits for it
    multiprocessing.get_context("spawn").Process = forked.Process  # type: ignore[misc]  # what the code server starts
