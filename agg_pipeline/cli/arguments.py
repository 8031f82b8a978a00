"""Arguments of several commands, and their parsers. The parsers raise CommandError."""

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.market.times import parse_iso

Root = Annotated[Path, typer.Option(help="Folder of the embedded stack.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(help="postgresql:// of the owner of schema public. Default: SUPABASE_DB_URL."),
]


# Several symbols are never one text with commas: a name may hold one.
_DASH = "One that begins with - goes after --, behind all options"
Symbol = Annotated[str, typer.Argument(help=f"{_DASH}.")]
SomeSymbols = Annotated[list[str] | None, typer.Argument(metavar="[SYMBOL]...", help=f"Default: all. {_DASH}.")]
Symbols = Annotated[
    list[str] | None,
    typer.Option("--symbol", help="Only this symbol; repeat for more. One that begins with -: --symbol=-X."),
]
OneTimeframe = Annotated[str | None, typer.Argument(metavar="[TIMEFRAME]", help="Default: all of the symbol.")]
Actor = Annotated[str | None, typer.Option("--by", help="Who does it. Default: the user of this session.")]

From = Annotated[str | None, typer.Option("--from", help="ISO time, UTC: windows that start at or after it.")]
To = Annotated[str | None, typer.Option("--to", help="ISO time, UTC: windows that start before it.")]


def parse_timeframe(name: str) -> Timeframe:
    """The timeframe of this name; the error lists all of them."""
    try:
        return Timeframe(name)
    except ValueError as exc:
        raise CommandError(f"{exc}.") from None


def parse_time(text: str, option: str) -> dt.datetime:
    """An ISO date or time, UTC unless it has an offset."""
    try:
        time = parse_iso(text)
    except ValueError:
        raise CommandError(
            f"{option} {text} is not a time from 1900 to 2200; write it as 2025-07-01 or 2025-07-01T12:00Z."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=dt.UTC)


def parse_day(text: str, option: str) -> dt.date:
    """An ISO date."""
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{option} {text} is not a date; write it as 2026-01-05.") from None


def timeframe_name(timeframe: str | None) -> str | None:
    """The name of an optional timeframe, validated."""
    return parse_timeframe(timeframe).value if timeframe else None
