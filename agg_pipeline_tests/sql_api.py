"""The page docs/sql-api.md, generated from the comments in the database by ``make docs``."""

from pathlib import Path

import psycopg

PAGE = Path(__file__).parents[1] / "docs" / "sql-api.md"

_HEAD = """# SQL functions

Generated from the comments in the database by `make docs`; a test keeps it up to date. The role `service_role` may
call all of these, over PostgREST (`POST /rest/v1/rpc/<function>`, arguments by name) or in SQL. Times are UTC. A
function that refuses raises an exception whose hint says what to do: AG001 the lease is lost, AG002 there is no such
task or symbol, AG003 an argument is not valid, AG004 the task is paused or disabled.
[architecture.md](architecture.md#glossary) explains the terms.

Over PostgREST a function that `returns TABLE` or `returns SETOF`, and each table and view, is cut to `db-max-rows`
(1,000 on Supabase) without notice; one that `returns jsonb` is not. [reference.md](reference.md#sets-over-the-rest-api)
says how to read all of it.
"""
_FUNCTIONS = """
select p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc')
  from pg_proc p where p.pronamespace = 'public'::regnamespace and p.proname not like '\\_%'
   and has_function_privilege('service_role', p.oid, 'execute') order by p.proname"""
_RELATIONS = """
select c.relname, case c.relkind when 'v' then 'view' else 'table' end, obj_description(c.oid, 'pg_class')
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
   and obj_description(c.oid, 'pg_class') is not null order by c.relname"""


def render(db: psycopg.Connection) -> str:
    """The text of the page for a migrated database."""
    parts = [_HEAD]
    for name, arguments, result, comment in db.execute(_FUNCTIONS).fetchall():
        lines = [f"  {argument}" for argument in _short(arguments).split(", ") if argument]
        call = f"{name}(\n" + ",\n".join(lines) + ")" if lines else f"{name}()"
        parts.append(f"\n## {name}\n\n{comment}\n\n```sql\n{call}\nreturns {_short(result)}\n```\n")
    parts.append("\n# Tables and views\n\n| name | | what it holds |\n|---|---|---|\n")
    for name, kind, comment in db.execute(_RELATIONS).fetchall():
        parts.append(f"| `{name}` | {kind} | {comment.replace('|', '/')} |\n")
    return "".join(parts)


def _short(types: str) -> str:
    for long, short in (("timestamp with time zone", "timestamptz"), ("double precision", "float8")):
        types = types.replace(long, short)
    return types


def main() -> None:
    from agg_pipeline.database.migrate import migrate
    from agg_pipeline.embedded import temporary

    with temporary() as stack:
        migrate(stack.dsn)
        with psycopg.connect(stack.dsn) as db:
            PAGE.write_text(render(db), encoding="utf-8")


if __name__ == "__main__":
    main()
