"""Databases of the predecessor in each state that users have them in, with two weeks of its work and its damage."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import pandas as pd
import psycopg

from agg_pipeline.ingest.demo_bars import generate
from agg_pipeline_tests.sql.helpers import fresh_database

HERE = Path(__file__).parent
BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
END = dt.datetime(2026, 1, 19, tzinfo=dt.UTC)
NOW = END + dt.timedelta(hours=12)
COLUMNS = ["canonical_symbol", "timeframe", "ts_utc", "open", "high", "low", "close", "vol", "vwap", "trade_count"]


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


STATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "before_phase_5": (_file("before_phase_5.sql"), _file("old_finish.sql")),
        "doubled_finish": (_file("old_finish.sql"), _file("left_running.sql")),
        "phase_5": (_file("health_012.sql"),),
        "hour_of_010": (_file("old_finish.sql"), _file("hour_of_010.sql")),
        "health_of_the_validator": (_file("health_of_the_validator.sql"),),
    }
)
"""What is done to a database of its fifth phase, by state."""


def feed() -> pd.DataFrame:
    """Raw bars of four symbols; every hundredth vwap of those that have one is unknown."""
    coin = generate("BTCUSD", BEGIN, END)
    bars = [generate("EURUSD", BEGIN, END), coin, generate("DE40", BEGIN, END)]
    bars.append(coin[coin["ts_utc"] < BEGIN + dt.timedelta(days=3)].assign(canonical_symbol="XAUUSD"))
    rows = pd.concat(bars, ignore_index=True)[COLUMNS]
    rows.loc[rows.index % 100 == 7, "vwap"] = None
    return rows.astype(object).where(rows.notna(), None)


def build(connection: psycopg.Connection, *, history: bool) -> None:
    """Its fifth phase in an empty schema public, with or without two weeks of work."""
    for name in ("tables.sql", "phase_5.sql", "registry.sql"):
        connection.execute(_file(name).encode())
    if not history:
        return
    connection.execute("create temp table feed (like public.data_bars)")
    connection.execute(
        "alter table feed alter id drop not null, alter is_partial drop not null, alter source drop not null"
    )
    connection.execute("alter table feed alter ingested_at drop not null, alter raw drop not null")
    with (
        connection.cursor() as cursor,
        cursor.copy(f"copy feed ({', '.join(COLUMNS)}) from stdin") as copy,
    ):
        for row in feed().itertuples(index=False):
            copy.write_row(list(row))
    connection.execute("create index on feed (ts_utc)")
    connection.execute(_file("history.sql").encode())
    connection.execute("drop table feed")


def bring_to(connection: psycopg.Connection, state: str) -> None:
    """From the fifth phase to one of STATES."""
    for sql in STATES[state]:
        connection.execute(sql.encode())


@contextlib.contextmanager
def template(dsn: str) -> Iterator[str]:
    """Name of a database with the history, to be copied."""
    with fresh_database(dsn, "two_weeks") as own:
        with psycopg.connect(own, autocommit=True) as connection:
            build(connection, history=True)
        yield "two_weeks"


@contextlib.contextmanager
def database(dsn: str, state: str, *, copy_of: str) -> Iterator[str]:
    """Database URL of one state, with its history; dropped at the end."""
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(f"drop database if exists {state} with (force)")
        server.execute(f"create database {state} template {copy_of}")
        own = urlsplit(dsn)._replace(path=f"/{state}").geturl()
        with psycopg.connect(own, autocommit=True) as connection:
            bring_to(connection, state)
        yield own
        server.execute(f"drop database {state} with (force)")
