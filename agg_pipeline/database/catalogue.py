"""The catalogue of schema public as facts that can be compared: what kind, which object, what it is.

Two databases whose facts are equal behave alike. Objects of extensions and partitions are left out, since neither is
ours; so is the order of a table's columns, which differs between a new and an upgraded database and means nothing.
"""

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row

QUERY = Path(__file__).with_name("catalogue.sql")

ROLES = "public, anon, authenticated, service_role"
"""Whose grants are facts."""


class Fact(NamedTuple):
    """What a fact is about: its kind (function, grant, ...) and the object, named as in SQL without schema public."""

    kind: str
    identity: str


Catalogue = dict[Fact, str]


class Difference(NamedTuple):
    """One fact of two catalogues; None: there is no such object."""

    fact: Fact
    before: str | None
    after: str | None

    def __str__(self) -> str:
        what = f"{self.fact.kind} {self.fact.identity}"
        if self.after is None:
            return f"{what}: is gone"
        if self.before is None:
            return f"{what}: is new"
        lines = list(difflib.unified_diff(self.before.splitlines(), self.after.splitlines(), lineterm="", n=0))[2:]
        return "\n    ".join([f"{what}: differs", *(line for line in lines if not line.startswith("@@"))])


def read_catalogue(connection: psycopg.Connection[Any]) -> Catalogue:
    """All facts. Reads only, in a transaction of its own or in the one that is open."""
    with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
        search_path = cursor.execute("select current_setting('search_path')").fetchone()
        cursor.execute("select set_config('search_path', '', true)")
        rows = cursor.execute(QUERY.read_bytes()).fetchall()
        cursor.execute("select set_config('search_path', %s, true)", search_path)
    return {Fact(kind, identity): value for kind, identity, value in rows}


def differences(before: Catalogue, after: Catalogue) -> list[Difference]:
    """What turns one catalogue into the other, ordered by kind and object."""
    facts = sorted(before.keys() | after.keys())
    return [
        Difference(fact, before.get(fact), after.get(fact)) for fact in facts if before.get(fact) != after.get(fact)
    ]
