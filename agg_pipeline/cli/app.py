"""The application: registers commands and turns each known failure into one line and an exit code, mostly 1."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from agg_pipeline.database.migrate import MigrationError
from agg_pipeline.embedded import EmbeddedError
from agg_pipeline.errors import GatewayError
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.market.calendars import CalendarError
from agg_pipeline.orchestration.job_process import JobProcessError
from agg_pipeline.settings import SettingsError

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Aggregates raw market bars in Supabase into higher timeframes. "
    "Start with `agg-pipeline demo` or `agg-pipeline up`.",
)
# Without a terminal a table must not be squeezed into 80 columns.
console = Console(width=None if sys.stdout.isatty() else 120)
errors = Console(stderr=True)


class CommandError(RuntimeError):
    """A command cannot be carried out; the message says why and what to do."""


_KNOWN = (
    CommandError,
    GatewayError,
    EmbeddedError,
    MigrationError,
    SettingsError,
    BarFileError,
    CalendarError,
    JobProcessError,
)


def command(name: str, *, hidden: bool = False, failure: int = 1) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command; its known failures end in one line on standard error and the exit code ``failure``."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except _KNOWN as exc:
                errors.print(f"[bold red]Error:[/] {escape(str(exc))}", soft_wrap=True, highlight=False)
                raise typer.Exit(failure) from None

        app.command(name, hidden=hidden)(guarded)
        return function

    return register
