"""The command status: the state of each task and its cause."""

import json
import time
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Root, SomeSymbols
from agg_pipeline.cli.tables import advice, bar_table, status_table
from agg_pipeline.cli.target import ROOT, connect, tasks_of
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.errors import TransientError

REFRESH_S = 5.0


@command("status")
def status(
    symbols: SomeSymbols = None,
    bars: Annotated[bool, typer.Option("--bars", help="Count bars by quality score too (reads all of them).")] = False,
    trouble: Annotated[
        bool, typer.Option("--trouble", help="Only tasks that are not current and do not wait for another task.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all fields of each task.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help=f"Refresh every {REFRESH_S:.0f} s until Ctrl-C.")] = False,
    root: Root = ROOT,
) -> None:
    """Show a line per task: state and cause, lag, completeness of the last hour and day.

    Exit code 1 if a task has failed, is stalled, or was disabled after failures.
    """
    with connect(root) as gateway:
        tasks = tasks_of(gateway, symbols)
        health = _in_trouble(tasks) if trouble else tasks
        if as_json:
            print(json.dumps([task.model_dump(mode="json", by_alias=True) for task in health], indent=1))
        elif watch:
            _watch(gateway, symbols, trouble)
        elif not tasks:
            console.print("There are no tasks yet. Load bars first: agg-pipeline load FILE.", highlight=False)
        else:
            if health:
                console.print(status_table(health, console.width))
            else:
                console.print("No trouble: every task is current or waits for another task.", highlight=False)
            for line in advice(health):
                console.print(line, highlight=False, soft_wrap=True)
            if bars:
                console.print(bar_table(gateway.bar_summary(symbols), health))
        if any(task.alarm == "error" for task in tasks):
            raise typer.Exit(1)


def _in_trouble(tasks: list[TaskHealth]) -> list[TaskHealth]:
    return [task for task in tasks if (task.state != "current" or task.reason) and not task.waits_for_task]


def _watch(gateway: AggGateway, symbols: list[str] | None, trouble: bool) -> None:
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            try:
                tasks = tasks_of(gateway, symbols)
                table = status_table(_in_trouble(tasks) if trouble else tasks, console.width)
                live.update(Group(table, f"{time.strftime('%H:%M:%S')}, Ctrl-C ends"), refresh=True)
            except TransientError as exc:  # the database may be restarting
                live.update(str(exc), refresh=True)
            time.sleep(REFRESH_S)
