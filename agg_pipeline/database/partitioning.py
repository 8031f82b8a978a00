"""Online partitioning of the bars tables by month: index and check are made without a lock, the switch takes ms.

No row is moved: the existing table becomes the first partition, and each month from ``until`` on gets its own.
"""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
import tenacity
from psycopg import sql

from agg_pipeline.database.connection import SESSION_PORT, Connection, connect, first_line, needs_session, transaction
from agg_pipeline.database.migrate import MigrationError

SWITCH = Path(__file__).parents[1] / "supabase" / "optional" / "partition_bars.sql"
TABLES: tuple[LiteralString, ...] = ("data_bars", "derived_data_bars")
SWITCH_LIMIT_S = 180.0
_IN_USE = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_TOO_SHORT = (
    "The statement_timeout of the role is too short for this table. Use port 5432, which keeps the session, with "
    "`?options=-c%20statement_timeout%3D0` at the end of the URL; a transaction pooler cannot carry that. "
    "The table works as before; repeat the command."
)
_AHEAD = dt.timedelta(days=2)  # so that no bar of the first month arrives before the switch


@dataclass(frozen=True)
class Plan:
    """State of one table and the plan for it: all bars before ``until`` become one partition."""

    table: str
    is_partitioned: bool
    rows: int
    megabytes: int
    until: dt.datetime


def plan(dsn: str, now: dt.datetime | None = None) -> list[Plan]:
    """Plan the partitioning of each table. Raises MigrationError if one is missing or has a bar after its ``until``."""
    with _connected(dsn) as db:
        return [_plan(db, table, now or dt.datetime.now(dt.UTC)) for table in TABLES]


def partition(dsn: str, now: dt.datetime | None = None, on_step: Callable[[str], None] = lambda _: None) -> list[str]:
    """Partition the tables that are not partitioned yet, and return their names. Can be repeated.

    Args:
        dsn: database URL of the tables' owner.
        on_step: called before each step with its description.
    Raises:
        MigrationError: a step failed. The tables work as before, and the call can be repeated.
    """
    done = []
    with _connected(dsn, keeps_options=True) as db:
        for table in TABLES:
            planned = _plan(db, table, now or dt.datetime.now(dt.UTC))
            if planned.is_partitioned:
                continue
            with _naming(table):
                _prepare(db, table, planned.until, on_step)
                on_step(f"{table}: switch")
                _switch(db, table, planned.until)
            done.append(table)
    return done


def _plan(db: Connection, table: LiteralString, now: dt.datetime) -> Plan:
    first = (now + _AHEAD).astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    until = (first + dt.timedelta(days=32)).replace(day=1)
    with _naming(table), transaction(db):
        found = db.execute(
            "select relkind = 'p', reltuples::bigint, pg_total_relation_size(oid) / 1000000 "
            "from pg_class where oid = to_regclass(%s)",
            [f"public.{table}"],
        ).fetchone()
        if found is None:
            raise MigrationError(f"There is no table {table}; run `agg-pipeline migrate` first.")
        if not found[0]:
            name = sql.Identifier("public", table)
            query = sql.SQL("select canonical_symbol, timeframe, ts_utc::text from {} where ts_utc >= %s limit 1")
            beyond = db.execute(query.format(name), [until]).fetchone()
            if beyond is not None:
                raise MigrationError(
                    f"{table} has a bar from the future: {beyond[0]}/{beyond[1]} at {beyond[2]}. "
                    f"Delete or correct bars at or after {until:%Y-%m-%d}, then repeat the command."
                )
    return Plan(table, found[0], max(found[1], 0), found[2], until)


def _prepare(db: Connection, table: LiteralString, until: dt.datetime, on_step: Callable[[str], None]) -> None:
    """Make the index and the check that the switch needs. Takes time in proportion to the rows, blocks nobody."""
    name, index, check = (
        sql.Identifier("public", table),
        sql.Identifier(f"{table}_id_ts_utc"),
        sql.Identifier(f"{table}_until"),
    )
    is_broken = db.execute(
        "select true from pg_index where indexrelid = to_regclass(%s) and not indisvalid", [f"public.{table}_id_ts_utc"]
    ).fetchone()
    if is_broken:  # an earlier attempt was interrupted
        db.execute(sql.SQL("drop index public.{}").format(index))
    on_step(f"{table}: index (id, ts_utc)")
    db.execute(sql.SQL("create unique index concurrently if not exists {} on {} (id, ts_utc)").format(index, name))
    on_step(f"{table}: check that all bars are before {until:%Y-%m-%d}")
    db.execute(sql.SQL("alter table {} drop constraint if exists {}").format(name, check))
    db.execute(
        sql.SQL("alter table {} add constraint {} check (ts_utc < {}) not valid").format(
            name, check, sql.Literal(until)
        )
    )
    db.execute(sql.SQL("alter table {} validate constraint {}").format(name, check))


def _switch(db: Connection, table: LiteralString, until: dt.datetime) -> None:
    """Exchange the table for its partitioned successor, under exclusive locks for a few milliseconds.

    On a busy table each attempt gives up after lock_timeout, which stays below deadlock_timeout (1 s): so the switch is
    canceled, never a tick. The timeout grows from 0.2 to 0.8 s, since calls of a tick take longer on slow machines.
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_IN_USE),
        stop=tenacity.stop_after_delay(SWITCH_LIMIT_S),
        wait=tenacity.wait_random(0.1, 1.0),
        reraise=True,
    ):
        wait_ms = min(100 + 100 * attempt.retry_state.attempt_number, 800)
        with attempt, transaction(db):
            db.execute("select set_config('lock_timeout', %s, true)", [f"{wait_ms}ms"])  # whatever the URL says
            db.execute(SWITCH.read_bytes())
            db.execute("select public._agg_partition_switch(%s, %s)", [table, until])
            db.execute("drop function public._agg_partition_switch")
            db.execute("notify pgrst, 'reload schema'")


@contextlib.contextmanager
def _naming(table: str) -> Iterator[None]:
    """Raise failures of the driver as a MigrationError that names the table."""
    try:
        yield
    except psycopg.Error as exc:
        raise MigrationError(f"{table} was not partitioned: {exc.sqlstate} {first_line(exc)}. {_remedy(exc)}") from None


def _remedy(exc: psycopg.Error) -> str:
    if needs_session(exc):
        return SESSION_PORT
    if isinstance(exc, psycopg.errors.QueryCanceled):
        return _TOO_SHORT
    return exc.diag.message_hint or "The table works as before; repeat the command."


def _connected(dsn: str, *, keeps_options: bool = False) -> Connection:
    """Connect; with the options of the URL for `create index concurrently`, which runs in no transaction of ours."""
    try:
        return connect(dsn, keeps_options=keeps_options)
    except psycopg.Error as exc:
        remedy = SESSION_PORT if needs_session(exc) else "Check the database URL."
        raise MigrationError(f"The database cannot be reached: {first_line(exc)}. {remedy}") from None
