"""Every migration with PostgreSQL's own parser, the bodies of its functions too; no server needed."""

import re
from collections.abc import Iterator

import pglast
import pytest

from agg_pipeline.database.migrate import migrations

# The parser of bodies knows no types but built-in ones, of which an array is an array of anything.
OUR_ARRAYS = re.compile(r"public\.agg_\w+\[\]")
PLPGSQL = re.compile(r"language\s+plpgsql|\bdo\s+\$", re.IGNORECASE)


def statements(text: str) -> Iterator[str]:
    """Each statement, parsed. Raises pglast.parser.ParseError."""
    for statement in pglast.split(text):
        pglast.parse_sql(statement)
        if PLPGSQL.search(statement):
            pglast.parse_plpgsql(OUR_ARRAYS.sub("text[]", statement))
        yield statement


@pytest.mark.parametrize("name", [migration.path.name for migration in migrations()])
def test_a_migration_parses(name: str) -> None:
    (path,) = [migration.path for migration in migrations() if migration.path.name == name]
    assert list(statements(path.read_text()))


@pytest.mark.parametrize(
    "wrong",
    [
        "create tabel public.t (id int);",
        "create function public.f() returns int language plpgsql as $$ begin retrun 1; end $$;",
        "do $$ begin if true then null; end $$;",
    ],
)
def test_a_slip_of_the_pen_is_found(wrong: str) -> None:
    with pytest.raises(pglast.parser.ParseError):
        list(statements(wrong))
