"""Look at a project over its database URL. Reads only: every statement runs in a transaction that may not write."""

import datetime as dt
from collections import defaultdict
from typing import Any

import psycopg
from psycopg.rows import dict_row

from agg_pipeline.database.catalogue import read_catalogue
from agg_pipeline.database.fingerprints import fingerprints
from agg_pipeline.database.gateway import FUNCTIONS
from agg_pipeline.doctor import queries
from agg_pipeline.doctor.facts import PREDECESSOR_RPCS, TABLES, Asset, Facts, TaskFacts, UnsoundRows
from agg_pipeline.errors import PermanentError, TransientError

_STATEMENT_TIMEOUT = "300s"

# Beside the RPCs: what writes bars or tables with the rights of its owner.
_INTERNAL = (
    "_upsert_derived_bar", "aggregate_1m_to_5m_window", "aggregate_5m_to_1h_window", "derived_soft_delete_range",
    "derived_rebuild_range", "calc_dxy_range_derived", "calc_dxy_range_1m",
)  # fmt: skip
_NEEDED = {
    "core_asset_registry_all": {"INSERT", "UPDATE"},
    "data_bars": {"INSERT", "UPDATE"},
    "ops_issues": {"INSERT"},
    "quality_workerhealth": {"INSERT"},
}


def look(dsn: str, *, since: dt.datetime | None = None, rows: bool = True) -> Facts:
    """Facts of the project behind a database URL.

    Args:
        since: rows before it are not judged.
        rows: False: only which database it is; rows, which take minutes in a large table, and definitions are not read.

    Raises TransientError if it cannot be reached, PermanentError if the user may not read.
    """
    try:
        with psycopg.connect(dsn, connect_timeout=10, row_factory=dict_row, autocommit=True) as connection:
            connection.execute("set default_transaction_read_only = on")
            connection.execute("select set_config('statement_timeout', %s, false)", [_STATEMENT_TIMEOUT])
            connection.execute("set timezone = 'UTC'")
            with connection.transaction():
                connection.execute("set transaction isolation level repeatable read")
                return _facts(connection, since, rows)
    except psycopg.OperationalError as exc:
        if exc.sqlstate is None:
            first = (str(exc).splitlines() or [""])[0]
            raise TransientError(
                "connect",
                type(exc).__name__,
                f"the database cannot be reached: {first}",
                "Are the address and the password right, and is the server up?",
            ) from None
        raise _refused(exc) from None
    except psycopg.Error as exc:
        raise _refused(exc) from None


def _refused(exc: psycopg.Error) -> PermanentError:
    hint = "Narrow it with --from." if exc.sqlstate == "57014" else None
    return PermanentError("doctor", exc.sqlstate or type(exc).__name__, exc.diag.message_primary or "refused", hint)


def _facts(connection: psycopg.Connection[dict[str, Any]], since: dt.datetime | None, rows: bool) -> Facts:
    columns: dict[str, set[str]] = defaultdict(set)
    open_tables: set[str] = set()
    for row in connection.execute(queries.COLUMNS, [list(TABLES)]):
        columns[row["table_name"]].add(row["column_name"])
        if not row["relrowsecurity"]:
            open_tables.add(row["table_name"])
    functions: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    browsers: list[str] = []
    has_hour_of_010 = False
    for row in connection.execute(queries.FUNCTIONS):
        name = row["proname"]
        functions[name].append(tuple(row["arguments"]))
        is_known = name in PREDECESSOR_RPCS or name in _INTERNAL or name.startswith(("agg_", "_agg_", "ops_", "_ops_"))
        if row["is_open"] and is_known:
            browsers.append(f"{name}()")
        has_hour_of_010 |= name == "aggregate_5m_to_1h_window" and "'5m_to_1h'" in row["prosrc"]
    extra: dict[str, list[str]] = {}
    for row in connection.execute(queries.GRANTS, [list(TABLES)]):
        if row["is_open"]:
            browsers.append(row["relname"])
        if more := sorted(set(row["service_role"]) - _NEEDED.get(row["relname"], set())):
            extra[row["relname"]] = more
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
        doubled=frozenset(name for name in FUNCTIONS | PREDECESSOR_RPCS.keys() if len(functions.get(name, ())) > 1),
        contract=contract["version"] if contract else 0,
        assets=[Asset(**row) for row in connection.execute(queries.ASSETS)] if has_bars else [],
        tasks=[TaskFacts(**row) for row in connection.execute(queries.TASKS)]
        if has_bars and "data_agg_state" in columns
        else [],
        recorded=frozenset(row["version"] for row in versions),
        open_to_browsers=sorted(set(browsers)),
        extra_grants=extra,
        without_rls=sorted(open_tables),
        triggers_of_others=[row["name"] for row in connection.execute(queries.TRIGGERS)],
        fingerprints=fingerprints(read_catalogue(connection)) if is_ours and rows else None,
        has_hour_of_010=has_hour_of_010,
        unsound=[
            UnsoundRows(**row)
            for row in connection.execute(queries.UNSOUND, {"since": since or dt.datetime(1970, 1, 1, tzinfo=dt.UTC)})
        ]
        if has_bars and rows
        else [],
    )
