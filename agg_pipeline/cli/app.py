"""The application: registers commands, turns each known failure into one line and an exit code, mostly 1, and prints.

What is printed is data: the consoles read neither markup nor emoji codes, so that no name and no text of the database
can be taken for one. ``styled`` gives a part of a text its colour.
"""

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agg_pipeline.database.migrate import MigrationError
from agg_pipeline.embedded import EmbeddedError
from agg_pipeline.errors import GatewayError, PermanentError
from agg_pipeline.ingest.errors import BarFileError
from agg_pipeline.market.calendars import CalendarError
from agg_pipeline.market.names import SymbolError, check_symbol, terminal
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


class PlainConsole(Console):
    """A console that prints text as it is, without markup and emoji codes, and control characters visibly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(terminal(text), **options)


class WholeTable(Table):
    """A table that breaks what does not fit into lines; a plain one cuts it off, also numbers and times."""

    def add_column(self, *arguments: Any, **options: Any) -> None:
        super().add_column(*arguments, **{"overflow": "fold"} | options)


# Without a terminal a table must not be squeezed into 80 columns.
console = PlainConsole(width=None if sys.stdout.isatty() else 120)
errors = PlainConsole(stderr=True)


def styled(*parts: str | tuple[str, str]) -> Text:
    """Text of parts, each as it is or with a style: ``styled("all ", ("right", "green"))``."""
    pairs = [(part, "") if isinstance(part, str) else part for part in parts]
    return Text.assemble(*((terminal(text), style) for text, style in pairs))


class CommandError(RuntimeError):
    """A command cannot be carried out; the message says why and what to do."""


def print_error(text: str) -> None:
    """One line on standard error."""
    errors.print(styled(("Error:", "bold red"), f" {text}"), soft_wrap=True, highlight=False)


@contextlib.contextmanager
def apart(symbol: str, refused: list[str]) -> Iterator[None]:
    """What the database refuses for one symbol in the block is printed and noted, and the others go on."""
    try:
        yield
    except PermanentError as exc:
        if exc.is_configuration:  # of no symbol
            raise
        print_error(f"{symbol}: {exc}")
        refused.append(symbol)


_KNOWN = (
    CommandError,
    SymbolError,
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
            for stream in (sys.stdout, sys.stderr):  # a name must not end a command whose terminal has no such letter
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")
            try:
                for name in _symbols(kwargs):
                    check_symbol(name)
                return function(*args, **kwargs)
            except _KNOWN as exc:
                print_error(str(exc))
                raise typer.Exit(failure) from None

        app.command(name, hidden=hidden)(guarded)
        return function

    return register


def _symbols(arguments: dict[str, Any]) -> list[str]:
    """The symbols among the arguments of a command, which are all called ``symbol`` or ``symbols``."""
    one: str | None = arguments.get("symbol")
    return [*([] if one is None else [one]), *(arguments.get("symbols") or [])]
