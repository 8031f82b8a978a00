"""The command up."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.instance_lock import sole_owner
from agg_pipeline.cli.target import ROOT, Target, connect, is_hosted
from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack, start, stop
from agg_pipeline.embedded.dagster_services import dagster_services, free_port
from agg_pipeline.settings import load_settings, variables

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
    with sole_owner(root) as announce:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            environment, where = dict(variables()), "hosted Supabase project."
            if not hosted or not environment.get("DAGSTER_POSTGRES_URL"):
                console.print("Starting the database ...")
                stack = start(root)  # with a hosted project too: Dagster keeps its runs in it
                environment["DAGSTER_POSTGRES_URL"] = stack.dagster_dsn
                if not hosted:
                    migrate(stack.dsn)
                    environment = dict(Target.of_stack(stack, settings.env_name).variables)
                    where = describe_stack(stack)
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


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def describe_stack(stack: Stack) -> str:
    return (
        f"PostgreSQL and PostgREST at {stack.api_url}."
        if stack.api_url
        else f"PostgreSQL without a REST API: {stack.api_missing}"
    )
