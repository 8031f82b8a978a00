"""Commands by which an operator stops tasks and puts them back to work: pause, resume."""

import getpass
from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Root, parse_time, parse_timeframe
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.wording import counted

Symbol = Annotated[str, typer.Argument()]
OneTimeframe = Annotated[str | None, typer.Argument(metavar="[TIMEFRAME]", help="Default: all of the symbol.")]
Actor = Annotated[str | None, typer.Option("--by", help="Who says so. Default: the user of this session.")]


@command("pause")
def pause(
    symbol: Symbol,
    timeframe: OneTimeframe = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; shown to everyone who looks.")] = "no reason given",
    until: Annotated[str | None, typer.Option("--until", help="ISO time, UTC. Default: until `resume`.")] = None,
    actor: Actor = None,
    root: Root = ROOT,
) -> None:
    """Stop a task, or all of a symbol. Nothing but `resume`, or the time given, undoes it."""
    end = parse_time(until, "--until") if until else None
    with connect(root) as gateway:
        tasks = gateway.pause(symbol, _name(timeframe), reason=reason, actor=actor or getpass.getuser(), until=end)
    until_when = f"until {end:%Y-%m-%d %H:%M} UTC" if end else "until resumed"
    console.print(f"{symbol}: {counted(tasks, 'task')} paused {until_when}.")


@command("resume")
def resume(symbol: Symbol, timeframe: OneTimeframe = None, actor: Actor = None, root: Root = ROOT) -> None:
    """End a pause, forget failures in a row, and put disabled tasks back to work; they are due at once."""
    with connect(root) as gateway:
        tasks = gateway.resume(symbol, _name(timeframe), actor=actor or getpass.getuser())
    console.print(f"{symbol}: {counted(tasks, 'task')} may run again.")


def _name(timeframe: str | None) -> str | None:
    return parse_timeframe(timeframe).value if timeframe else None
