"""Database functions over a database URL (psycopg), for databases without a REST API and for fewer hops."""

import contextlib
import datetime as dt
import socket
import threading
from collections.abc import Iterator

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from agg_pipeline.database.connection import SESSION_PORT, Connection, connect, first_line, needs_session, set_local
from agg_pipeline.errors import GatewayError, PermanentError, TransientError, error_for


class PostgresTransport:
    """One connection, opened by the first call and reopened after a loss. Safe for threads: calls run one at a time."""

    def __init__(self, dsn: str, *, timeout_s: float) -> None:
        self._dsn, self._timeout_s = dsn, timeout_s
        self._connection: Connection | None = None
        self._signatures: dict[str, tuple[dict[str, str], bool]] = {}
        self._lock = threading.Lock()

    def call(self, function: str, params: dict[str, object]) -> object:
        with self._lock:
            try:
                connection = self._connected()
                with _time_limit(connection, self._timeout_s):
                    return self._call(connection, function, params)
            except (psycopg.Error, TimeoutError, TypeError, ValueError) as exc:
                raise self._failed(function, exc) from None  # the driver's text contains rows and parts of a bad URL

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, timeout_s=self._timeout_s)
        return self._connection

    def _call(self, connection: Connection, function: str, params: dict[str, object]) -> object:
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
        # What a pipeline sends is one transaction: settings and call, without begin and commit. statement_timeout is
        # 80 % of the read timeout, so that the server stops first and returns its reason.
        with connection.pipeline():
            set_local(connection, timezone="UTC", statement_timeout=f"{self._timeout_s * 800:.0f}")
            # Fetched before the pipeline ends: its end reports a session that was terminated without the SQLSTATE.
            rows = [row[0] for row in connection.execute(query, values).fetchall()]
        return rows if returns_set else rows[0]

    def _signature(self, connection: Connection, function: str) -> tuple[dict[str, str], bool]:
        """Types of the parameters by name, and whether the function returns a set. PostgREST reads the same."""
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
            text = exc.diag.message_primary or first_line(exc)
            return error_for(function, exc.sqlstate, text, hint=exc.diag.message_hint)
        kind = type(exc).__name__
        if needs_session(exc):
            return PermanentError(function, kind, f"the pooler refuses: {first_line(exc)}", SESSION_PORT)
        if isinstance(exc, (psycopg.OperationalError, TimeoutError)):  # refused, host unknown, connection lost
            return TransientError(
                function,
                kind,
                f"no answer from the database: {first_line(exc)}",
                "Check the address and the password, and that the server is up.",
            )
        if self._connection is None:
            return PermanentError(
                function,
                kind,
                "the database URL cannot be read",
                "Write it as postgresql://user:password@host:5432/database, special characters of the password as %xx.",
            )
        return PermanentError(function, kind, f"the call cannot be sent: {first_line(exc)}")

    def functions(self) -> frozenset[str]:
        with self._lock:
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
def _time_limit(connection: Connection, seconds: float) -> Iterator[None]:
    """Raise TimeoutError and close the connection if the server has not answered within ``seconds``.

    libpq has no read timeout, and a cancel request does not reach a server that is unreachable. So a timer shuts the
    socket down, which ends the wait, also with TLS.
    """
    duplicate = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)  # of the descriptor
    has_expired = threading.Event()

    def shut_down() -> None:
        has_expired.set()
        with contextlib.suppress(OSError):  # the server has closed it already
            duplicate.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.OperationalError:
        if has_expired.is_set():
            raise TimeoutError(f"no response within {seconds:g} s") from None
        raise
    finally:
        timer.cancel()
        timer.join()
        duplicate.close()
        if has_expired.is_set():
            connection.close()


def _dumps(value: object) -> str:
    import json

    return json.dumps(value, default=_encode, allow_nan=False)


def _encode(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
