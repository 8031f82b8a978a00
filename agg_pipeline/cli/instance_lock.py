"""The lock of the folder that `up` holds, and who holds it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import typer

from agg_pipeline.cli.app import console


@contextlib.contextmanager
def sole_owner(root: Path) -> Iterator[Callable[[dict[str, object]], None]]:
    """Hold the folder for the life of `up`; who comes second is told who holds it."""
    root.mkdir(parents=True, exist_ok=True)
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
    """Facts about the running `up` of this folder, or None."""
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
