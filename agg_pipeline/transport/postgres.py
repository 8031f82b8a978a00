"""Database functions over a database URL (psycopg): where there is no REST API, or nobody wants the detour."""

import datetime as dt
import threading
from typing import Any

import psycopg
from psycopg import sql
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
                return self._call(self._connected(), function, params)
            except psycopg.Error as exc:
                raise self._failed(function, exc) from exc

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=10,
                row_factory=tuple_row,
                options=f"-c timezone=UTC -c statement_timeout={int(self._timeout_s * 1000)}",
            )
        return self._connection

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

    def _failed(self, function: str, exc: psycopg.Error) -> GatewayError:
        if exc.sqlstate is None:  # no server had a say: refused, unknown host, cut
            return TransientError(
                function,
                type(exc).__name__,
                f"no answer from the database: {_first_line(exc)}",
                "Is the address right and the server up?",
            )
        return error_for(
            function, exc.sqlstate, exc.diag.message_primary or _first_line(exc), hint=exc.diag.message_hint
        )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]


def _dumps(value: object) -> str:
    import json

    return json.dumps(value, default=_encode, allow_nan=False)


def _encode(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")
