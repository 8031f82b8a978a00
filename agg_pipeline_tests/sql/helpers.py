"""Helpers of the SQL tests: insert raw bars, run ticks, read bars and tasks."""

import contextlib
import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pglast
import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from agg_pipeline.database.schemas import SUPABASE
from agg_pipeline.embedded import create_database

Row = dict[str, Any]

MONDAY = "2026-01-05"
MINUTES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}


def at(text: str) -> dt.datetime:
    """A time in UTC: ``at("10:05")`` on the Monday of the tests, or ``at("2026-01-06T10:05")``."""
    return dt.datetime.fromisoformat(text if "-" in text else f"{MONDAY}T{text}").replace(tzinfo=dt.UTC)


def register(db: psycopg.Connection, *symbols: str, base: str = "1m", start: str = "00:00") -> None:
    """Assets that are active in every environment, with all their tasks, beginning at ``start``."""
    for symbol in symbols:
        db.execute("select public.agg_register_asset(%s, %s, %s)", [symbol, at(start), base])


def put(
    db: psycopg.Connection,
    symbol: str,
    start: str | dt.datetime,
    count: int = 1,
    timeframe: str = "1m",
    **values: object,
) -> None:
    """``count`` consecutive raw bars from ``start``, upserted in one statement as an ingester does.

    Prices rise by 1 a bar from 100, volume is 10. Keyword arguments set a column of all these bars.
    """
    first = at(start) if isinstance(start, str) else start
    step = dt.timedelta(minutes=MINUTES[timeframe])
    put_bars(db, symbol, [bar(first + n * step, 100 + n) | values for n in range(count)], timeframe)


def bar(ts: dt.datetime, price: float) -> Row:
    return {
        "ts_utc": ts, "open": price, "high": price + 2, "low": price - 2, "close": price + 1,
        "vol": 10.0, "vwap": float(price), "trade_count": 3, "is_partial": False,
    }  # fmt: skip


def put_bars(db: psycopg.Connection, symbol: str, bars: Sequence[Row], timeframe: str = "1m") -> None:
    columns: dict[str, list[object]] = {column: [row[column] for row in bars] for column in bar(at("00:00"), 0)}
    for column in ("open", "high", "low", "close", "vol", "vwap"):
        columns[column] = [None if value is None else float(value) for value in columns[column]]  # type: ignore[arg-type]
    db.execute(
        """insert into public.data_bars (canonical_symbol, timeframe, source, ts_utc, open, high, low, close, vol, vwap,
                                         trade_count, is_partial)
           select %s, %s, 'test', b.* from unnest(%s::timestamptz[], %s::float8[], %s::float8[], %s::float8[],
               %s::float8[],
                                                  %s::float8[], %s::float8[], %s::int[], %s::bool[]) b
           on conflict (canonical_symbol, timeframe, ts_utc) do update
              set open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,
                  vol = excluded.vol, vwap = excluded.vwap, trade_count = excluded.trade_count,
                  is_partial = excluded.is_partial""",
        [symbol, timeframe, *columns.values()],
    )


def drop(db: psycopg.Connection, symbol: str, start: str, end: str) -> None:
    """Delete raw bars of [start, end)."""
    db.execute(
        "delete from public.data_bars where canonical_symbol = %s and ts_utc >= %s and ts_utc < %s",
        [symbol, at(start), at(end)],
    )


def scalar(db: psycopg.Connection, query: str, params: Sequence[object] | Mapping[str, object] = ()) -> Any:
    row = db.execute(query, params).fetchone()
    assert row is not None
    return row[0]


def rows(db: psycopg.Connection, query: str, params: Sequence[object] = ()) -> list[Row]:
    with db.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, params).fetchall()


def catch_up(
    db: psycopg.Connection,
    symbol: str,
    timeframe: str,
    now: str,
    max_windows: int = 1000,
    *,
    ignore_confirmation: bool = False,
    version: int = 1,
    token: int | None = None,
    start: str | None = "2000-01-01T00:00",
) -> Row:
    """One catch-up of one task that nobody has leased (or with the token of a lease)."""
    return scalar(
        db,
        """select public.catchup_aggregation_range(p_symbol => %s, p_to_tf => %s, p_start_cursor_utc => %s,
            p_max_windows => %s,
             p_now_utc => %s, p_derivation_version => %s, p_ignore_confirmation => %s, p_lease_token => %s)""",
        [symbol, timeframe, start and at(start), max_windows, at(now), version, ignore_confirmation, token],
    )


def due(
    db: psycopg.Connection,
    now: str | dt.datetime,
    *,
    limit: int | None = None,
    env: str | None = "PROD",
    symbols: list[str] | None = None,
    timeframes: list[str] | None = None,
) -> list[tuple[str, str]]:
    """(symbol, timeframe) of the due tasks, in the order of the answer."""
    now = at(now) if isinstance(now, str) else now
    found = db.execute(
        """select canonical_symbol, timeframe from public.agg_get_due_tasks(
             %s, %s, %s, p_symbols => %s::text[], p_timeframes => %s::text[])""",
        [env, now, limit, symbols, timeframes],
    ).fetchall()
    return [(symbol, timeframe) for symbol, timeframe in found]


def start(db: psycopg.Connection, symbol: str, timeframe: str, now: str, **extra: object) -> Row:
    return scalar(
        db,
        "select public.agg_start(%s, %s, %s, %s, %s)",
        [symbol, timeframe, at(now), extra.get("owner"), extra.get("seconds")],
    )


def finish(db: psycopg.Connection, symbol: str, timeframe: str, now: str, **extra: object) -> Row:
    """``agg_finish``; success by default."""
    return scalar(
        db,
        """select public.agg_finish(%s, %s, %s, p_new_cursor_utc => %s, p_stats => %s, p_fail_kind => %s, p_error => %s,
                                    p_now_utc => %s, p_auto_disable_hard_fail_threshold => %s, p_lease_token => %s)""",
        [
            symbol, timeframe, extra.get("success", True), extra.get("cursor"), Jsonb(extra.get("stats")),
            extra.get("fail_kind"), extra.get("error"), at(now), extra.get("threshold", 3), extra.get("token"),
        ],
    )  # fmt: skip


def batch(db: psycopg.Connection, function: str, tasks: Sequence[Mapping[str, object]], **named: object) -> list[Row]:
    """One of the array forms: ``batch(db, "agg_start_batch", [task("EURUSD", "5m")], p_now_utc=at("10:05"))``."""
    arguments = "".join(f", {name} => %({name})s" for name in named)
    first = "p_results" if function == "agg_finish_batch" else "p_tasks"
    return scalar(db, f"select public.{function}({first} => %(tasks)s{arguments})", {"tasks": Jsonb(tasks), **named})


def task(symbol: str, timeframe: str, **more: object) -> Row:
    return {"canonical_symbol": symbol, "timeframe": timeframe, **more}


def tick(
    db: psycopg.Connection,
    now: str | dt.datetime,
    *,
    limit: int | None = None,
    max_windows: int = 1000,
    env: str = "PROD",
) -> list[Row]:
    """What a run does: select, lease, catch up, finish. The results of the catch-up, one per due task, in due order."""
    now = at(now) if isinstance(now, str) else now
    tasks = [task(*key) for key in due(db, now, limit=limit, env=env)]
    if not tasks:
        return []
    leases = batch(db, "agg_start_batch", tasks, p_now_utc=now, p_owner="tick")
    assert all(lease["success"] for lease in leases), leases
    results = batch(db, "catchup_aggregation_batch", leases, p_now_utc=now, p_max_windows=max_windows)
    assert not any("error" in result for result in results), results
    outcomes = [
        task(
            lease["canonical_symbol"], lease["timeframe"], lease_token=lease["lease_token"], success=True, stats=result
        )
        for lease, result in zip(leases, results, strict=True)
    ]
    finished = batch(db, "agg_finish_batch", outcomes, p_now_utc=now)
    assert all(done.get("success") for done in finished), finished
    return results


def settle(db: psycopg.Connection, now: str | dt.datetime, **how: Any) -> int:
    """Tick at one point in time until nothing is due; how many ticks it took."""
    for n in range(60):
        if not tick(db, now, **how):
            return n
    raise AssertionError(f"still due after 60 ticks at {now}: {due(db, now)}")


def live(db: psycopg.Connection, symbol: str, timeframe: str) -> list[Row]:
    """Live derived bars by time."""
    return rows(
        db,
        "select * from public.derived_data_bars where canonical_symbol = %s and timeframe = %s "
        "and deleted_at is null order by ts_utc",
        [symbol, timeframe],
    )


def times(db: psycopg.Connection, symbol: str, timeframe: str) -> list[str]:
    """When the live bars start: ``10:05`` on the Monday of the tests, else ``01-06 10:05``."""
    return [clock(row["ts_utc"]) for row in live(db, symbol, timeframe)]


def clock(ts: str | dt.datetime | None) -> str | None:
    if ts is None:
        return None
    moment = dt.datetime.fromisoformat(ts) if isinstance(ts, str) else ts.astimezone(dt.UTC)
    return moment.strftime("%H:%M" if moment.date() == at("00:00").date() else "%m-%d %H:%M")


def history(db: psycopg.Connection, symbol: str, timeframe: str) -> list[tuple[int, bool, float]]:
    """(revision, is live, close) of every row there ever was, oldest first."""
    return db.execute(
        """select revision, deleted_at is null, close from public.derived_data_bars
            where canonical_symbol = %s and timeframe = %s order by ts_utc, revision""",
        [symbol, timeframe],
    ).fetchall()


def state(db: psycopg.Connection, symbol: str, timeframe: str) -> Row:
    return rows(
        db, "select * from public.data_agg_state where canonical_symbol = %s and timeframe = %s", [symbol, timeframe]
    )[0]


def cursor(db: psycopg.Connection, symbol: str, timeframe: str) -> str | None:
    return clock(state(db, symbol, timeframe)["last_agg_bar_ts_utc"])


def alter_task(db: psycopg.Connection, symbol: str, timeframe: str, **columns: object) -> None:
    """What an operator does by hand."""
    assignments = ", ".join(f"{column} = %s" for column in columns)
    db.execute(
        f"update public.data_agg_state set {assignments} where canonical_symbol = %s and timeframe = %s",
        [*columns.values(), symbol, timeframe],
    )


def dirty(db: psycopg.Connection, symbol: str, timeframe: str) -> list[tuple[str | None, str | None]]:
    found = db.execute(
        "select from_utc, to_utc from public.agg_dirty_ranges "
        "where canonical_symbol = %s and timeframe = %s order by 1, 2",
        [symbol, timeframe],
    ).fetchall()
    return [(clock(begin), clock(end)) for begin, end in found]


def edited_schema(topic: str, old: str, new: str) -> str:
    """The statements of a file of supabase/schemas that say ``old``, to be run with ``new`` instead."""
    path = SUPABASE / "schemas" / f"{topic}.sql"
    found = [statement for statement in pglast.split(path.read_text(encoding="utf-8")) if old in statement]
    assert found, f"{path.name} no longer says {old!r}"
    edited = (statement.replace(old, new) for statement in found)
    return ";\n".join(re.sub("^create ", "create or replace ", one, count=1, flags=re.MULTILINE) for one in edited)


@contextlib.contextmanager
def refused(db: psycopg.Connection, sqlstate: str, match: str, hint: str = "") -> Iterator[None]:
    """The call raises our SQLSTATE with this message and hint, and changes nothing."""
    with pytest.raises(psycopg.DatabaseError, match=match) as raised, db.transaction():
        yield
    assert raised.value.sqlstate == sqlstate
    assert hint in (raised.value.diag.message_hint or "")


@contextlib.contextmanager
def fresh_database(dsn: str, name: str) -> Iterator[str]:
    """A database on the same server, with the default privileges of a Supabase project; dropped at the end."""
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(f"drop database if exists {name} with (force)")
        yield create_database(dsn, name)
        server.execute(f"drop database {name} with (force)")


@contextlib.contextmanager
def copied_database(dsn: str, name: str, *, of: str) -> Iterator[str]:
    """A copy of another database on the same server, to which nobody may be connected; dropped at the end."""
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(f"drop database if exists {name} with (force)")
        server.execute(f"create database {name} template {of}")
        yield psycopg.conninfo.make_conninfo(dsn, dbname=name, options="-c timezone=UTC")
        server.execute(f"drop database {name} with (force)")
