"""The one place that opens a connection to a database URL, and the transactions in which settings are made.

A transaction pooler (PgBouncer with pool_mode = transaction, Supabase's Supavisor on port 6543) gives each transaction
any session of its pool, and the next client gets that session as it was left. So a connection of this package

- makes no setting, lock, temporary table or cursor that outlives its transaction: ``set_config(..., true)``,
  ``pg_advisory_xact_lock``, ``on commit drop``;
- prepares no statement (``prepare_threshold=None``): the next transaction may run in a session that does not have it;
- sends no startup ``options``, which PgBouncer refuses. Settings that a URL has there (``options=-c name=value``) are
  made in each transaction instead.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import RowFactory, tuple_row

CONNECT_TIMEOUT_S = 10.0

SESSION_PORT = (
    "Use a connection that keeps its session instead of a transaction pooler: port 5432 (on Supabase the direct "
    "connection or the session pooler), not 6543 or 6432."
)
"""What to do where a transaction pooler cannot carry what is asked for."""

# A connection that broke while idle is noticed within 60 s.
_KEEPALIVES = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_SET_LOCAL: LiteralString = "select set_config(name, value, true) from unnest(%s::text[], %s::text[]) s (name, value)"
# A word of startup options ends at a blank; a backslash takes the next character as it is.
_WORD = re.compile(r"(?:\\.|\S)+")
# What only a new session takes: sent as startup options even so, so that a pooler refuses it instead of losing it.
_OF_THE_SESSION = ("default_transaction_", "session_preload_libraries", "log_connections", "log_disconnections")
# PgBouncer gives its refusals one SQLSTATE, and those of a login arrive without any. It does not translate its texts.
_REFUSALS_OF_A_POOLER = re.compile(r"unsupported startup parameter|not allowed in statement pooling mode")


class Connection(psycopg.Connection[Any]):
    """A connection in autocommit mode.

    Attributes:
        given: settings that its URL asks for; ``set_local`` makes them in each transaction.
    """

    given: Mapping[str, str] = {}


def connect(
    dsn: str,
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
    row_factory: RowFactory[Any] = tuple_row,
    keeps_options: bool = False,
) -> Connection:
    """Connect to a database URL, directly or through a transaction pooler.

    Args:
        timeout_s: how long to wait for the login, at least 2 s (libpq); a connect_timeout of the URL takes precedence.
        keeps_options: send the startup options of the URL as they are, for statements that run in no transaction of
            ours (create index concurrently). A transaction pooler refuses them.
    Raises:
        psycopg.ProgrammingError: the URL cannot be read. The text shows nothing of it, for it may hold a password.
        psycopg.OperationalError: the database cannot be reached, or it refuses the login.
    """
    try:
        given = conninfo_to_dict(dsn)
        if "@" in str(given.get("host") or "")[1:]:  # an @ in first place denotes an abstract socket
            raise psycopg.ProgrammingError("the host contains @")
    except psycopg.ProgrammingError:
        raise psycopg.ProgrammingError(
            "the database URL cannot be read: write it as postgresql://user:password@host:5432/database, special "
            "characters of the password as %xx"
        ) from None
    options = str(given.pop("options", None) or os.environ.get("PGOPTIONS", ""))
    settings, rest = divide_options(options)
    defaults: dict[str, Any] = {"connect_timeout": max(2, round(min(CONNECT_TIMEOUT_S, timeout_s))), **_KEEPALIVES}
    connection = Connection.connect(
        # Empty options are none, and keep libpq from reading PGOPTIONS.
        make_conninfo("", **{**defaults, **given, "options": options if keeps_options else rest}),
        autocommit=True,
        prepare_threshold=None,
        row_factory=row_factory,
    )
    connection.given = settings
    return connection


def divide_options(options: str) -> tuple[dict[str, str], str]:
    """Divide startup options into settings that a transaction can make and the rest, as text."""
    settings: dict[str, str] = {}
    rest: list[str] = []
    words = iter(_WORD.findall(options))
    for word in words:
        own = [word, next(words, "")] if word == "-c" else [word]
        pair = own[-1] if word == "-c" else word[2:] if word.startswith(("-c", "--")) else ""
        name, is_setting, value = re.sub(r"\\(.)", r"\1", pair).partition("=")
        name = name.replace("-", "_").lower()
        if is_setting and not name.startswith(_OF_THE_SESSION):
            settings[name] = value
        else:
            rest += filter(None, own)
    return settings, " ".join(rest)


def set_local(connection: Connection, **settings: str) -> None:
    """Make settings until the end of the transaction; those of the URL take precedence."""
    wanted = {**settings, **connection.given}
    if wanted:
        connection.execute(_SET_LOCAL, [list(wanted), list(wanted.values())])


@contextlib.contextmanager
def transaction(connection: Connection, *, snapshot: bool = False, **settings: str) -> Iterator[None]:
    """A transaction with settings of its own, in UTC unless the URL or ``settings`` say otherwise.

    Args:
        snapshot: begin it as repeatable read and read only.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if snapshot else None
    connection.read_only = True if snapshot else None
    with connection.transaction():
        set_local(connection, **{"timezone": "UTC", **settings})
        yield


def first_line(exc: Exception) -> str:
    """First line of an error's text, else the name of its class; without rows, which the driver puts on later lines."""
    return (str(exc).splitlines() or [type(exc).__name__])[0]


def needs_session(exc: Exception) -> bool:
    """Whether a transaction pooler refused what only a connection with a session of its own can do."""
    return isinstance(exc, psycopg.OperationalError) and _REFUSALS_OF_A_POOLER.search(str(exc)) is not None
