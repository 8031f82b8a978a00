"""Database functions over a database URL (psycopg): where there is no REST API, or nobody wants the detour."""

import contextlib
import datetime as dt
import socket
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from agg_pipeline.errors import GatewayError, PermanentError, TransientError, error_for


class PostgresTransport:
    """One connection, opened with the first call and opened again after a loss; calls take turns."""

    def __init__(self, dsn: str, *, timeout_s: float) -> None:
        self._dsn, self._timeout_s = dsn, timeout_s
        self._connection: psycopg.Connection[Any] | None = None
        self._signatures: dict[str, tuple[dict[str, str], bool]] = {}
        self._turn = threading.Lock()

    def call(self, function: str, params: dict[str, object]) -> object:
        with self._turn:
            try:
                connection = self._connected()
                with _time_limit(connection, self._timeout_s):
                    return self._call(connection, function, params)
            except (psycopg.Error, TimeoutError, TypeError, ValueError) as exc:
                raise self._failed(function, exc) from None  # the driver's own text shows rows, and parts of a bad URL

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn, autocommit=True, row_factory=tuple_row, **self._connection_settings()
            )
        return self._connection

    def _connection_settings(self) -> dict[str, Any]:
        """The server gives up before we do, so that its reason arrives; keepalives find a line that is cut while idle.

        What the database URL sets by itself wins.
        """
        given = conninfo_to_dict(self._dsn)
        if "@" in str(given.get("host") or "")[1:]:  # where it comes first, it names a kind of socket
            raise ValueError("what stands before @ in the host is the end of a password")
        settings = {
            "connect_timeout": max(2, min(10, round(self._timeout_s))),  # libpq knows no less than 2 s
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        options = f"-c timezone=UTC -c statement_timeout={self._timeout_s * 800:.0f}"
        return {name: value for name, value in settings.items() if name not in given} | {
            "options": f"{options} {given.get('options') or ''}".strip()
        }

    def _call(self, connection: psycopg.Connection[Any], function: str, params: dict[str, object]) -> object:
        types, returns_set = self._signature(connection, function)
        if unknown := sorted(set(params) - set(types)):
            raise PermanentError(function, "PGRST202", f"it has no parameter {', '.join(unknown)}")
        arguments = sql.SQL(", ").join(
            sql.SQL("{} => {}::{}").format(sql.Identifier(name), sql.Placeholder(name), sql.SQL(types[name]))
            for name in params
        )
        query = sql.SQL("select to_jsonb(result) from {}({}) result").format(
            sql.Identifier("public", function), arguments
        )
        values = {
            name: Jsonb(value, dumps=_dumps) if types[name] == "jsonb" and value is not None else value
            for name, value in params.items()
        }
        rows = [row[0] for row in connection.execute(query, values).fetchall()]
        return rows if returns_set else rows[0]

    def _signature(self, connection: psycopg.Connection[Any], function: str) -> tuple[dict[str, str], bool]:
        """Types of the parameters by name, whether a set comes back; PostgREST reads the same."""
        if function not in self._signatures:
            found = connection.execute(
                """select p.proargnames[1:p.pronargs],
                          array(select format_type(t, null) from unnest(p.proargtypes) t), p.proretset
                     from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname = %s""",
                [function],
            ).fetchall()
            if len(found) != 1:
                raise PermanentError(
                    function,
                    "PGRST202" if not found else "PGRST203",
                    f"the database has {len(found)} functions of this name, not one",
                )
            names, types, returns_set = found[0]
            self._signatures[function] = (dict(zip(names or [], types, strict=True)), returns_set)
        return self._signatures[function]

    def _failed(self, function: str, exc: Exception) -> GatewayError:
        if isinstance(exc, psycopg.Error) and exc.sqlstate is not None:
            text = exc.diag.message_primary or _first_line(exc)
            return error_for(function, exc.sqlstate, text, hint=exc.diag.message_hint)
        kind = type(exc).__name__
        if isinstance(exc, (psycopg.OperationalError, TimeoutError)):  # no server had a say: refused, unknown, cut
            return TransientError(
                function,
                kind,
                f"no answer from the database: {_first_line(exc)}",
                "Are the address and the password right, and is the server up?",
            )
        if self._connection is None:
            return PermanentError(
                function,
                kind,
                "the database URL cannot be read",
                "Write it as postgresql://user:password@host:5432/database, special characters of the password as %xx.",
            )
        return PermanentError(function, kind, f"the call cannot be sent: {_first_line(exc)}")

    def functions(self) -> frozenset[str]:
        with self._turn:
            try:
                connection = self._connected()
                with _time_limit(connection, self._timeout_s):
                    found = connection.execute(
                        "select distinct proname from pg_proc where pronamespace = 'public'::regnamespace"
                    ).fetchall()
            except (psycopg.Error, TimeoutError, TypeError, ValueError) as exc:
                raise self._failed("pg_proc", exc) from None
        return frozenset(name for (name,) in found)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@contextlib.contextmanager
def _time_limit(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Hang up on a server that has not answered in time; raises TimeoutError, and the connection is closed.

    The driver waits for ever for one that says nothing, and a request to cancel would not reach it either. A socket
    that is shut down wakes whoever waits for it, with TLS too.
    """
    line = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)  # a second handle, not a connection
    is_over = threading.Event()

    def hang_up() -> None:
        is_over.set()
        with contextlib.suppress(OSError):  # the other side was faster
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.OperationalError:
        if is_over.is_set():
            raise TimeoutError(f"nothing came for {seconds:g} s") from None
        raise
    finally:
        timer.cancel()
        timer.join()
        line.close()
        if is_over.is_set():
            connection.close()


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]


def _dumps(value: object) -> str:
    import json

    return json.dumps(value, default=_encode, allow_nan=False)


def _encode(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
