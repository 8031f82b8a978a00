"""The command pause."""

import getpass
from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Actor, OneTimeframe, Root, Symbol, parse_time, timeframe_name
from agg_pipeline.cli.target import ROOT, connect


@command("pause")
def pause(
    symbol: Symbol,
    timeframe: OneTimeframe = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; `status` shows it.")] = "no reason given",
    until: Annotated[str | None, typer.Option("--until", help="ISO time, UTC. Default: until `resume`.")] = None,
    actor: Actor = None,
    root: Root = ROOT,
) -> None:
    """Pause a task, or all tasks of a symbol, until `resume` or the given time."""
    end = parse_time(until, "--until") if until else None
    with connect(root) as gateway:
        tasks = gateway.pause(
            symbol, timeframe_name(timeframe), reason=reason, actor=actor or getpass.getuser(), until=end
        )
    until_when = f"until {end:%Y-%m-%d %H:%M} UTC" if end else "until resumed"
    console.print(f"{symbol} is paused {until_when} (tasks: {tasks}).")
