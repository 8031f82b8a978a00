"""The command calendar."""

import datetime as dt
from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Root, Symbol, parse_day
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.ingest.sessions import refresh
from agg_pipeline.market.calendars import ALWAYS_OPEN


@command("calendar")
def calendar(
    symbol: Symbol,
    name: Annotated[str, typer.Argument(metavar="CALENDAR", help="24x7, fx_24x5 or an exchange, e.g. XNYS.")],
    since: Annotated[
        str | None, typer.Option("--from", help="First UTC day on which it applies. Default: all of history.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Set the trading calendar of a symbol. Bars whose number of expected source bars changes are rebuilt."""
    day = since and dt.datetime.combine(parse_day(since, "--from"), dt.time(), dt.UTC)
    with connect(root) as gateway:
        if name != ALWAYS_OPEN:
            list(refresh(gateway, dry_run=False, names=(name,)))
        gateway.set_calendar(symbol, name, begin=day or None)
    console.print(
        f"{symbol} follows {name}{f' from {since} on' if since else ''}; the next ticks rebuild the bars that change."
    )
