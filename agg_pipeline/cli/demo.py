"""The command demo."""

import datetime as dt
import os
import time
from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.tables import bar_table
from agg_pipeline.cli.target import connect
from agg_pipeline.cli.up import describe_stack
from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import temporary


@command("demo")
def demo(keep_days: Annotated[int, typer.Option("--days", min=1, max=60, help="Days of generated bars.")] = 14) -> None:
    """Try it: a temporary database, generated bars of three symbols, ticks until nothing is due, a table."""
    from agg_pipeline.cli.demo_run import run_demo

    began = time.monotonic()
    with temporary() as stack:
        console.print(describe_stack(stack))
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
