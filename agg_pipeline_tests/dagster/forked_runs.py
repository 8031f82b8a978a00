"""For the definitions that tests serve: a run is a fork of a process that has imported everything.

It is still a process of its own, with a pid to kill. A fresh one, which Dagster starts for each run, spends four fifths
of its time with imports.
"""

import multiprocessing


def fork_runs() -> None:
    """Have the code server that imports the definitions fork its runs."""
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["agg_pipeline.definitions", "dagster_postgres"])
    multiprocessing.get_context("spawn").Process = forked.Process  # type: ignore[misc]  # what the code server starts
