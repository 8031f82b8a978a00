"""The command demo."""

import datetime as dt
import time
from typing import Annotated

import typer
from rich.progress import Progress

from agg_pipeline.cli.app import CommandError, command, console, errors
from agg_pipeline.cli.tables import bar_table
from agg_pipeline.cli.target import Target
from agg_pipeline.cli.up import describe_stack
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import temporary
from agg_pipeline.ingest.demo_bars import DEMO_ASSETS
from agg_pipeline.ingest.upload import upload_demo_bars
from agg_pipeline.orchestration.job_process import JobProcess
from agg_pipeline.settings import Environment

_MAX_WINDOWS = 10_000  # two weeks in one tick; a live tick needs one window a task
_MAX_TICKS = 20


@command("demo")
def demo(days: Annotated[int, typer.Option("--days", min=1, max=60, help="Days of generated bars.")] = 14) -> None:
    """Try it: a temporary database, generated bars of three symbols, ticks until nothing is due, a table."""
    began = time.monotonic()
    with temporary() as stack:
        console.print(describe_stack(stack))
        migrate(stack.dsn)
        target = Target.of_stack(stack, Environment.DEV)
        variables = {name: value for name, value in target.variables.items() if name != "DAGSTER_HOME"}
        with JobProcess(variables) as job, target.connect() as gateway:
            for symbol in DEMO_ASSETS:
                _load(gateway, symbol, dt.datetime.now(dt.UTC), days)
            _tick(job)
            console.print(bar_table(gateway.bar_summary(), gateway.health()))
    console.print(
        f"Done in {time.monotonic() - began:.0f} s. `agg-pipeline up` starts the same with the Dagster UI on "
        "http://127.0.0.1:3000 and keeps its data; `agg-pipeline load FILE` loads your own bars."
    )


def _load(gateway: AggGateway, symbol: str, now: dt.datetime, days: int) -> None:
    start = now.replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=days)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"Loading {symbol}", total=1.0)
        upload = upload_demo_bars(
            gateway, symbol, start, now, on_progress=lambda part: progress.update(bar, completed=part)
        )
    for line in upload.calendar_failures:
        errors.print(line, style="yellow", highlight=False, soft_wrap=True)
    console.print(f"Loaded {upload.inserted:,} {DEMO_ASSETS[symbol].base_timeframe} bars of {symbol}.", highlight=False)


def _tick(job: JobProcess) -> None:
    """Run the job until nothing is due."""
    config = {"max_tasks": 100, "max_windows": _MAX_WINDOWS}
    for n, run in enumerate(job.run(config, max_runs=_MAX_TICKS), 1):
        console.print(f"Tick {n}:", *run.lines, sep="\n  ", highlight=False)
        if not run.success:
            raise CommandError(run.failure or "The run failed.")
    if run.is_more_due:
        raise CommandError(
            f"Tasks are still due after {_MAX_TICKS} ticks. `agg-pipeline up` and the Dagster UI show why."
        )
