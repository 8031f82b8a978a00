"""Further databases on a running server, as empty and as open as a new Supabase project."""

import psycopg
from psycopg import sql

from agg_pipeline.embedded.postgres import connect

_ROLES = sql.SQL("anon, authenticated, service_role")  # made by roles.sql, once per server


def create_database(dsn: str, name: str) -> str:
    """Create a database with the default privileges that roles.sql gives the first one; its URL.

    Args:
        dsn: URL of any database of the server, as superuser.
    """
    with connect(dsn) as server:
        server.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    own = psycopg.conninfo.make_conninfo(dsn, dbname=name, options="-c timezone=UTC")
    with connect(own) as connection:
        for kind in ("tables", "sequences", "functions"):
            grant = sql.SQL("alter default privileges in schema public grant all on {} to {}")
            connection.execute(grant.format(sql.SQL(kind), _ROLES))
    return own
