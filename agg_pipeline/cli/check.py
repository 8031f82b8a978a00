"""The command check: checks stored bars independently of the SQL that built them."""

import datetime as dt
from typing import Annotated

import typer
from rich.progress import track
from rich.table import Table

from agg_pipeline.cli.app import WholeTable, apart, command, console, styled
from agg_pipeline.cli.arguments import Root, Symbols, parse_time
from agg_pipeline.cli.target import ROOT, connect, histories
from agg_pipeline.quality.check_results import CHECKS, RAW_CHECKS, CheckResult
from agg_pipeline.quality.checks import check_bars

DAYS = 7


@command("check")
def check(
    symbols: Symbols = None,
    begin: Annotated[
        str | None, typer.Option("--from", help=f"ISO time, UTC. Default: {DAYS} days before --to.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", help="ISO time, UTC. Default: the end of each symbol's bars.")
    ] = None,
    root: Root = ROOT,
) -> None:
    """Check stored bars and their tasks: recomputation, gaps, coverage, parents against children, prices, misplaced
    rows, lag, health. Exit code 1 if there is an error."""
    since, until = begin and parse_time(begin, "--from"), end and parse_time(end, "--to")
    results: list[CheckResult] = []
    refused: list[str] = []
    with connect(root) as gateway:
        for symbol, (_, built_until) in track(
            histories(gateway, symbols).items(),
            "Checking",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            stop = until or built_until
            with apart(symbol, refused):
                results += check_bars(gateway, symbol, begin=since or stop - dt.timedelta(days=DAYS), end=stop)
    for finding in (finding for result in results for finding in result.findings):
        console.print(f"{finding.severity}: {finding}", highlight=False, soft_wrap=True)
    console.print(_table(results))
    if refused or any(not result.passed and result.severity == "error" for result in results):
        raise typer.Exit(1)


def _table(results: list[CheckResult]) -> Table:
    table = WholeTable(title="Checks", title_justify="left")
    table.add_column("check")
    for name in ("checked", "invalidated", "wrong"):
        table.add_column(name, justify="right")
    for name in dict.fromkeys((*CHECKS, *RAW_CHECKS)):
        own = [result for result in results if result.check == name]
        found = sum(result.found for result in own)
        table.add_row(
            name,
            f"{sum(result.checked for result in own):,}",
            f"{sum(result.invalidated for result in own):,}",
            styled((f"{found:,}", "red")) if found else "0",
        )
    return table
