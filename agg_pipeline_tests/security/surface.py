"""All relations and functions that the REST API could serve, read from the catalogue, and what a caller may do."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import psycopg

# Bits of pg_relation_is_updatable: 1 << CMD_UPDATE, CMD_INSERT, CMD_DELETE. A view that joins refuses all three.
UPDATE, INSERT, DELETE = 4, 8, 16
REFUSED = {"42501", "PGRST301", "PGRST302", "PGRST303"}
KINDS = ("r", "p", "v", "m", "f")


@dataclass(frozen=True)
class Relation:
    """A table, a view, or whatever else has rows."""

    name: str
    columns: tuple[str, ...]
    writable: tuple[str, ...]  # without generated columns, which nobody writes
    updatable: int


@dataclass(frozen=True)
class Function:
    """A function that is no trigger: its parameters with their types, in order."""

    name: str
    parameters: dict[str, str] = field(hash=False)
    required: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surface:
    """Schema public."""

    relations: list[Relation]
    functions: list[Function]

    @classmethod
    def read(cls, dsn: str) -> "Surface":
        with psycopg.connect(dsn) as db:
            relations = db.execute(
                """select relname, array_agg(attname::text order by attnum),
                          array_agg(attname::text order by attnum) filter (where attgenerated = ''),
                          pg_relation_is_updatable(c.oid, false)
                     from pg_class c join pg_attribute on attrelid = c.oid and attnum > 0 and not attisdropped
                    where relnamespace = 'public'::regnamespace and relkind = any(%s) group by c.oid order by 1""",
                [list(KINDS)],
            ).fetchall()
            functions = db.execute(
                """select proname, coalesce(proargnames[1:pronargs], '{}'),
                          array(select format_type(t, null) from unnest(proargtypes) with ordinality u(t, n)
                                 order by n),
                          pronargs - pronargdefaults
                     from pg_proc where pronamespace = 'public'::regnamespace and prokind in ('f', 'p')
                      and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) order by 1"""
            ).fetchall()
        return cls(
            [
                Relation(name, tuple(columns), tuple(writable), updatable)
                for name, columns, writable, updatable in relations
            ],
            [
                Function(name, dict(zip(names, types, strict=True)), tuple(names[:required]))
                for name, names, types, required in functions
            ],
        )

    def only(self, name: str) -> "Surface":
        """The relation or function of this name."""
        found = Surface([r for r in self.relations if r.name == name], [f for f in self.functions if f.name == name])
        assert len(found.relations) + len(found.functions) == 1, name
        return found


@dataclass(frozen=True)
class Attempt:
    """One request, and what it would let its caller do."""

    what: str
    right: str  # select, insert, update, delete or execute
    request: httpx.Request = field(repr=False)


def attempts(url: str, surface: Surface, *, columns: bool = True) -> Iterator[Attempt]:
    """Reads and writes of every relation, as a whole and by column (rights may hang on one), and a call of everything.

    One that goes through does what it asks for, so only for a database of the tests.
    """

    def request(method: str, path: str, body: object = None, **params: str) -> httpx.Request:
        content = None if body is None else json.dumps(body)
        return httpx.Request(
            method, f"{url}/{path}", params=params, content=content, headers={"content-type": "application/json"}
        )

    for r in surface.relations:
        yield Attempt(r.name, "select", request("GET", r.name, limit="0"))
        if r.updatable & INSERT:
            yield Attempt(r.name, "insert", request("POST", r.name, {}))
        if r.updatable & DELETE:
            yield Attempt(r.name, "delete", request("DELETE", r.name, **{r.columns[0]: "is.null"}))
        for column in r.columns if columns else ():
            yield Attempt(f"{r.name}.{column}", "select", request("GET", r.name, select=column, limit="0"))
        for column in r.writable if columns else ():
            if r.updatable & INSERT:
                yield Attempt(f"{r.name}.{column}", "insert", request("POST", r.name, {column: None}))
            if r.updatable & UPDATE:  # without a filter, since that reads a column, which is a right of its own
                yield Attempt(f"{r.name}.{column}", "update", request("PATCH", r.name, {column: None}))
    for f in surface.functions:
        yield Attempt(f.name, "execute", request("POST", f"rpc/{f.name}", dict.fromkeys(f.parameters)))


def openings(url: str, surface: Surface, headers: dict[str, str], *, columns: bool = True) -> set[tuple[str, str]]:
    """What a caller with these headers is not refused: (relation, relation.column or function; right)."""
    found = set()
    with httpx.Client(trust_env=False, timeout=30) as http:
        for attempt in attempts(url, surface, columns=columns):
            attempt.request.headers.update(headers)
            answer = http.send(attempt.request)
            if not is_refused(answer):
                found.add((attempt.what, attempt.right))
    return found


def is_refused(answer: httpx.Response) -> bool:
    """True if the caller was refused; an error about the request itself means that access was granted."""
    return answer.status_code in (401, 403) and answer.json().get("code") in REFUSED
