"""The command tick."""

from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.arguments import Root, Symbols, parse_timeframe
from agg_pipeline.cli.target import ROOT, find_target
from agg_pipeline.embedded import running
from agg_pipeline.orchestration.job_process import JobProcess


@command("tick")
def tick(
    symbols: Symbols = None,
    timeframes: Annotated[
        list[str] | None, typer.Option("--timeframe", help="Only this timeframe; repeat for more.")
    ] = None,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="Most tasks to process.")] = None,
    max_windows: Annotated[int | None, typer.Option(min=1, max=100_000, help="Most windows to build per task.")] = None,
    root: Root = ROOT,
) -> None:
    """Run the job once, now. The run shows in the Dagster UI of `agg-pipeline up` if that runs."""
    for name in timeframes or []:
        parse_timeframe(name)
    variables = dict(find_target(root).variables)
    stack, home = running(root), (root / "dagster_home").absolute()
    if stack is not None and home.exists():
        variables.setdefault("DAGSTER_HOME", str(home))
        variables.setdefault("DAGSTER_POSTGRES_URL", stack.dagster_dsn)
    config = {
        "symbols": symbols or None,
        "timeframes": timeframes or None,
        "max_tasks": max_tasks,
        "max_windows": max_windows,
    }
    with JobProcess(variables) as job:
        for run in job.run(config):
            console.print(*(run.lines or (["Nothing was due."] if run.success else [])), sep="\n", highlight=False)
            if not run.success:
                raise CommandError(run.failure or "The run failed; its log has the reason.")
