"""Commands on the embedded stack: up, down, demo."""

import contextlib
import datetime as dt
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TextIO

import typer

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.report import bar_table
from agg_pipeline.cli.services import dagster_services, free_port
from agg_pipeline.cli.target import ROOT, connect, is_hosted
from agg_pipeline.local import Stack, start, stop, temporary
from agg_pipeline.migrations import migrate
from agg_pipeline.settings import load_settings

Root = Annotated[Path, typer.Option(help="Folder of the embedded stack: data, logs, secrets.")]


@command("up")
def up(
    root: Root = ROOT,
    host: Annotated[str, typer.Option(help="Address of the Dagster UI.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the Dagster UI; 0 takes a free one.", min=0, max=65535)] = 3000,
) -> None:
    """Start everything: database, REST API, Dagster's UI and daemon with the schedule. Ctrl-C ends all of it."""
    settings = load_settings()
    hosted = is_hosted(settings.env_name)
    if hosted:
        with connect(root):  # a project that cannot be used is one line here, and a failed run every five minutes later
            pass
    with _sole_owner(root) as announce:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            environment, where = {}, "hosted Supabase project."
            if not hosted or not os.environ.get("DAGSTER_POSTGRES_URL"):
                console.print("Starting the database ...")
                stack = start(root)  # with a hosted project too: Dagster keeps its runs in it
                environment["DAGSTER_POSTGRES_URL"] = stack.dagster_dsn
                if not hosted:
                    migrate(stack.dsn)
                    environment, where = stack.environment(), _where(stack)
            console.print("Starting Dagster ...")
            with dagster_services(root, environment, host=host, port=port or free_port()) as services:
                announce({"pid": os.getpid(), "ui": services.url})
                console.print(f"[bold]Dagster UI[/]  {services.url}", highlight=False)
                console.print(f"Environment {settings.env_name.value}, {where}", highlight=False)
                console.print("The schedule ticks on minutes 1, 6, ..., 56. Load bars: agg-pipeline load FILE.")
                console.print("Ctrl-C stops everything.")
                while True:
                    time.sleep(0.5)
                    for name in services.revive():
                        console.print(f"The {name} ended by itself and was started again; see {root / 'logs'}.")
        except KeyboardInterrupt:
            console.print("Stopping ...")
        finally:
            stop(root)
    console.print("Stopped. Data stays in the folder.")


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


@command("demo")
def demo(keep_days: Annotated[int, typer.Option("--days", min=1, max=60, help="Days of generated bars.")] = 14) -> None:
    """Try it: a temporary database, generated bars of three symbols, ticks until nothing is due, a table."""
    from agg_pipeline.cli.demo import run_demo

    began = time.monotonic()
    with temporary() as stack:
        console.print(_where(stack))
        migrate(stack.dsn)
        os.environ.update(stack.environment(), ENV_NAME="DEV")
        for name in ("DAGSTER_HOME", "SUPABASE_URL_DEV", "SUPABASE_SERVICE_ROLE_KEY_DEV", "SUPABASE_REST_PATH_DEV"):
            os.environ.pop(name, None)
        with connect(stack.root) as gateway:
            run_demo(gateway, dt.datetime.now(dt.UTC), keep_days)
            console.print(bar_table(gateway.bar_summary(), gateway.health()))
    console.print(
        f"Done in {time.monotonic() - began:.0f} s. `agg-pipeline up` starts the same with the Dagster UI on "
        "http://127.0.0.1:3000 and keeps its data; `agg-pipeline load FILE` puts your own bars in."
    )


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _where(stack: Stack) -> str:
    return (
        f"PostgreSQL and PostgREST at {stack.api_url}."
        if stack.api_url
        else f"PostgreSQL without a REST API: {stack.api_missing}"
    )


@contextlib.contextmanager
def _sole_owner(root: Path) -> Iterator[Callable[[dict[str, object]], None]]:
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
