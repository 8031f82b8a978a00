"""The command tick."""

import os
from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.arguments import Root, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.embedded import running


@command("tick")
def tick(
    symbols: Annotated[list[str] | None, typer.Option("--symbol", help="Only this symbol; repeat for more.")] = None,
    timeframes: Annotated[
        list[str] | None, typer.Option("--timeframe", help="Only this timeframe; repeat for more.")
    ] = None,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="Tasks to take at most.")] = None,
    max_windows: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Windows to build per task at most.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """One run of the job now, in this process; it shows in the Dagster UI of `agg-pipeline up`."""
    for name in timeframes or []:
        parse_timeframe(name)
    with connect(root):  # an unreachable database is one line here, a page of traceback inside a run
        pass
    from agg_pipeline.cli.in_process_run import run_job

    stack, home = running(root), (root / "dagster_home").absolute()
    if stack is not None and home.exists():
        os.environ.setdefault("DAGSTER_HOME", str(home))
        os.environ.setdefault("DAGSTER_POSTGRES_URL", stack.dagster_dsn)
    ran = run_job(
        {
            "symbols": symbols or None,
            "timeframes": timeframes or None,
            "max_tasks": max_tasks,
            "max_windows": max_windows,
        }
    )
    console.print(*(ran.lines or (["Nothing was due."] if ran.success else [])), sep="\n", highlight=False)
    if not ran.success:
        raise CommandError(ran.failure or "The run failed; its log has the reason.")
