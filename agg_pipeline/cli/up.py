"""The command up."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console, styled
from agg_pipeline.cli.instance_lock import holder_of, sole_owner
from agg_pipeline.cli.target import ROOT, Target, connect, is_hosted
from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack, stop, supervised
from agg_pipeline.embedded.dagster_services import start_dagster
from agg_pipeline.embedded.ports import check_is_free
from agg_pipeline.settings import load_settings, variables

POLL_S = 0.5
Root = Annotated[Path, typer.Option(help="Folder of the embedded stack: data, logs, secrets.")]


@command("up")
def up(
    root: Root = ROOT,
    host: Annotated[str, typer.Option(help="Address of the Dagster UI.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the Dagster UI; 0 takes a free one.", min=0, max=65535)] = 3000,
) -> None:
    """Start everything: database, REST API, Dagster's UI and daemon with the schedule. Ctrl-C stops all of it."""
    if holder_of(root) is None:  # else the port is that of the `up` that runs in the folder, which sole_owner names
        check_is_free(port, host, port_option="--port", host_option="--host")
    settings = load_settings()
    hosted = is_hosted(settings.env_name)
    if hosted:
        with connect(root):  # an unusable project is one line here, instead of a failed run every five minutes
            pass
    # Dagster keeps its runs in PostgreSQL, so a hosted project needs a database here too, unless Dagster has its own.
    needs_database = not hosted or not variables().get("DAGSTER_POSTGRES_URL")
    with sole_owner(root) as announce, contextlib.ExitStack() as services:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            if needs_database:
                console.print("Starting the database ...")
            supervisor, stack = services.enter_context(supervised(root, database=needs_database))
            services.callback(stop, root)  # also a PostgreSQL whose supervisor was killed: outside Linux it goes on
            environment, where = dict(variables()), "hosted Supabase project."
            if stack is not None:
                environment["DAGSTER_POSTGRES_URL"] = stack.dagster_dsn
                if not hosted:
                    migrate(stack.dsn)
                    environment = dict(Target.of_stack(stack, settings.env_name).variables)
                    where = describe_stack(stack)
            console.print("Starting Dagster ...")
            dagster = start_dagster(supervisor, environment, host=host, port=port)
            announce({"pid": os.getpid(), "ui": dagster.url})
            console.print(styled(("Dagster UI", "bold"), f"  {dagster.url}"), highlight=False, soft_wrap=True)
            console.print(f"Environment {settings.env_name.value}, {where}", highlight=False)
            console.print("The schedule ticks on minutes 1, 6, ..., 56. Load bars: agg-pipeline load FILE.")
            console.print("Ctrl-C stops everything.")
            while True:
                time.sleep(POLL_S)
                for name in supervisor.restarted():
                    log = supervisor.layout.log(name)
                    console.print(f"{name} ended by itself and was started again; see {log}.", soft_wrap=True)
        except KeyboardInterrupt:
            console.print("Stopping ...")
    console.print("Stopped. Data stays in the folder.")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def describe_stack(stack: Stack) -> str:
    return (
        f"PostgreSQL and PostgREST at {stack.api_url}."
        if stack.api_url
        else f"PostgreSQL without a REST API: {stack.api_missing}"
    )
