"""The command calendars."""

from typing import Annotated

import typer
from rich.table import Table

from agg_pipeline.cli.app import WholeTable, command, console
from agg_pipeline.cli.arguments import Root
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.database.models.calendars import CalendarChange, Calendars
from agg_pipeline.ingest.sessions import RefreshError, refresh
from agg_pipeline.market.names import shell_words

MAX_CHANGES = 50


@command("calendars")
def calendars(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CALENDAR]...", help="Default: all in use.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Store the sessions. Default: only show what would change.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Show the trading calendars in use and refresh their sessions for years ahead; stores them with --apply."""
    with connect(root) as gateway:
        changes: list[CalendarChange] = []
        failure = None
        try:
            changes.extend(refresh(gateway, dry_run=not apply, names=names or ()))
        except RefreshError as exc:
            failure = exc  # of some; the others are shown first
        in_use = gateway.calendars()
    for result in changes:
        for change in result.changes[:MAX_CHANGES]:
            console.print(
                f"{result.calendar}: {change.change} {change.open_utc:%a %Y-%m-%d %H:%M} to "
                f"{change.close_utc:%a %H:%M}",
                highlight=False,
            )
        if (more := len(result.changes) - MAX_CHANGES) > 0:
            console.print(f"{result.calendar}: ... and {more:,} more")
    console.print(_table(in_use, changes))
    for proposal in in_use.proposals:
        console.print(
            f"{proposal.symbol} is FX but follows 24x7. To set its hours: "
            f"`agg-pipeline calendar {shell_words(proposal.symbol, proposal.calendar)}`"
        )
    if not apply and any(result.added or result.removed for result in changes):
        console.print("Nothing was changed; repeat with --apply to store the sessions.")
    if failure is not None:
        raise failure


def _table(in_use: Calendars, changes: list[CalendarChange]) -> Table:
    by_name = {result.calendar: result for result in changes}
    table = WholeTable(title="Trading calendars", title_justify="left")
    table.add_column("calendar")
    for column in ("symbols", "known from", "to", "added", "removed", "changed"):
        table.add_column(column, justify="right")
    table.add_column("source")
    for use in in_use.calendars:
        result = by_name.pop(use.calendar, None)
        table.add_row(
            use.calendar, f"{use.symbols:,}",
            *(f"{bound:%Y-%m-%d}" if bound else "-" for bound in (use.from_utc, use.to_utc)),
            *_counts(result), use.version or "",
        )  # fmt: skip
    for result in by_name.values():
        table.add_row(result.calendar, "0", "-", "-", *_counts(result), "")
    return table


def _counts(result: CalendarChange | None) -> tuple[str, str, str]:
    return (f"{result.added:,}", f"{result.removed:,}", f"{len(result.changes):,}") if result else ("-", "-", "-")
