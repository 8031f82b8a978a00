"""The lock that `up` holds on its folder, and which process holds it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import typer

from agg_pipeline.cli.app import console
from agg_pipeline.embedded.files import Layout


@contextlib.contextmanager
def sole_owner(root: Path) -> Iterator[Callable[[dict[str, object]], None]]:
    """Hold the folder while `up` runs; gives a function that announces facts about it. A second `up` exits with 0."""
    Layout.of(root).make()
    with (root / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _read(lock)
            console.print(
                f"Already up, in process {holder.get('pid', '?')}: {holder.get('ui', 'still starting')}",
                highlight=False,
            )
            raise typer.Exit(0) from None

        def announce(facts: dict[str, object]) -> None:
            lock.seek(0)
            lock.truncate()
            json.dump(facts, lock)
            lock.flush()

        announce({"pid": os.getpid()})
        yield announce


def holder_of(root: Path) -> dict[str, object] | None:
    """What the `up` that runs in this folder has announced (pid, ui); None if none runs."""
    with contextlib.suppress(FileNotFoundError), (root / "up.lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return _read(lock)
    return None


def _read(lock: TextIO) -> dict[str, object]:
    lock.seek(0)
    try:
        return dict(json.loads(lock.read()))
    except ValueError:
        return {}
