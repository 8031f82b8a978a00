"""Reads the facts of a project over its database URL, in a read-only transaction."""

import datetime as dt
from collections import defaultdict
from typing import Any

import psycopg
from psycopg.rows import dict_row

from agg_pipeline.database.catalogue import read_catalogue
from agg_pipeline.database.connection import SESSION_PORT, connect, first_line, needs_session, transaction
from agg_pipeline.database.fingerprints import fingerprints
from agg_pipeline.database.gateway import FUNCTIONS
from agg_pipeline.doctor import queries
from agg_pipeline.doctor.facts import PREDECESSOR_RPCS, TABLES, Asset, Facts, InvalidRows, TaskFacts
from agg_pipeline.errors import PermanentError, TransientError

_STATEMENT_TIMEOUT = "300s"

# Functions besides the RPCs that write bars or tables with the rights of their owner.
_INTERNAL = (
    "_upsert_derived_bar", "aggregate_1m_to_5m_window", "aggregate_5m_to_1h_window", "derived_soft_delete_range",
    "derived_rebuild_range", "calc_dxy_range_derived", "calc_dxy_range_1m",
)  # fmt: skip
_REQUIRED_GRANTS = {
    "core_asset_registry_all": {"INSERT", "UPDATE"},
    "data_bars": {"INSERT", "UPDATE"},
    "ops_issues": {"INSERT"},
    "quality_workerhealth": {"INSERT"},
}


def read_facts(dsn: str, *, since: dt.datetime | None = None, rows: bool = True) -> Facts:
    """Read the facts of the project at a database URL.

    Args:
        since: rows before it are not examined.
        rows: False: read only which database it is, neither rows, which take minutes in a large table, nor definitions.
    Raises:
        TransientError: the database cannot be reached.
        PermanentError: the user has no permission to read.
    """
    try:
        with (
            connect(dsn, row_factory=dict_row) as connection,
            transaction(connection, snapshot=True, statement_timeout=_STATEMENT_TIMEOUT),
        ):
            return _facts(connection, since, rows)
    except psycopg.OperationalError as exc:
        if needs_session(exc):
            code = exc.sqlstate or type(exc).__name__
            raise PermanentError("doctor", code, first_line(exc), SESSION_PORT) from None
        if exc.sqlstate is None:
            raise TransientError(
                "connect",
                type(exc).__name__,
                f"the database cannot be reached: {first_line(exc)}",
                "Check the address and the password, and that the server is up.",
            ) from None
        raise _refused(exc) from None
    except psycopg.Error as exc:
        raise _refused(exc) from None


def _refused(exc: psycopg.Error) -> PermanentError:
    hint = "Narrow it with --from." if exc.sqlstate == "57014" else None
    message = exc.diag.message_primary or first_line(exc)
    return PermanentError("doctor", exc.sqlstate or type(exc).__name__, message, hint)


def _facts(connection: psycopg.Connection[dict[str, Any]], since: dt.datetime | None, rows: bool) -> Facts:
    columns: dict[str, set[str]] = defaultdict(set)
    tables_without_rls: set[str] = set()
    for row in connection.execute(queries.COLUMNS, [list(TABLES)]):
        columns[row["table_name"]].add(row["column_name"])
        if not row["relrowsecurity"]:
            tables_without_rls.add(row["table_name"])
    functions: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    public_grants: list[str] = []
    has_broken_1h_function = False
    for row in connection.execute(queries.FUNCTIONS):
        name = row["proname"]
        functions[name].append(tuple(row["arguments"]))
        is_known = name in PREDECESSOR_RPCS or name in _INTERNAL or name.startswith(("agg_", "_agg_", "ops_", "_ops_"))
        if row["is_open"] and is_known:
            public_grants.append(f"{name}()")
        has_broken_1h_function |= name == "aggregate_5m_to_1h_window" and "'5m_to_1h'" in row["prosrc"]
    extra_grants: dict[str, list[str]] = {}
    for row in connection.execute(queries.GRANTS, [list(TABLES)]):
        if row["is_open"]:
            public_grants.append(row["relname"])
        if more := sorted(set(row["service_role"]) - _REQUIRED_GRANTS.get(row["relname"], set())):
            extra_grants[row["relname"]] = more
    is_ours = "agg_contract" in functions
    has_bars = {"core_asset_registry_all", "data_bars", "derived_data_bars"} <= columns.keys()
    recorded = connection.execute("select to_regclass('supabase_migrations.schema_migrations') is not null as is_there")
    versions = (
        connection.execute("select version from supabase_migrations.schema_migrations").fetchall()
        if recorded.fetchone() == {"is_there": True}
        else []
    )
    contract = connection.execute("select public.agg_contract() as version").fetchone() if is_ours else None
    return Facts(
        columns={table: frozenset(names) for table, names in columns.items()},
        functions=functions,
        overloaded=frozenset(name for name in FUNCTIONS | PREDECESSOR_RPCS.keys() if len(functions.get(name, ())) > 1),
        contract=contract["version"] if contract else 0,
        assets=[Asset(**row) for row in connection.execute(queries.ASSETS)] if has_bars else [],
        tasks=[TaskFacts(**row) for row in connection.execute(queries.TASKS)]
        if has_bars and "data_agg_state" in columns
        else [],
        applied_versions=frozenset(row["version"] for row in versions),
        public_grants=sorted(set(public_grants)),
        extra_grants=extra_grants,
        without_rls=sorted(tables_without_rls),
        foreign_triggers=[row["name"] for row in connection.execute(queries.TRIGGERS)],
        fingerprints=fingerprints(read_catalogue(connection)) if is_ours and rows else None,
        has_broken_1h_function=has_broken_1h_function,
        invalid_rows=[
            InvalidRows(**row)
            for row in connection.execute(
                queries.INVALID_ROWS, {"since": since or dt.datetime(1970, 1, 1, tzinfo=dt.UTC)}
            )
        ]
        if has_bars and rows
        else [],
    )
