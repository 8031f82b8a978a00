"""The command resume."""

import getpass

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Actor, OneTimeframe, Root, Symbol, timeframe_name
from agg_pipeline.cli.target import ROOT, connect


@command("resume")
def resume(symbol: Symbol, timeframe: OneTimeframe = None, actor: Actor = None, root: Root = ROOT) -> None:
    """End a pause, reset failure counts and enable disabled tasks; they are due at once."""
    with connect(root) as gateway:
        tasks = gateway.resume(symbol, timeframe_name(timeframe), actor=actor or getpass.getuser())
    console.print(f"{symbol} may run again (tasks: {tasks}).")
