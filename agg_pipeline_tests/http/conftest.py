"""A stack whose database raises the errors that a test asks for."""

import time
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.embedded import Stack, temporary
from agg_pipeline.errors import PermanentError
from agg_pipeline_tests.http.failing import call

FAULTS = """
create table public.parent (id int primary key);
create table public.child (id int primary key, parent int references public.parent, even int check (even % 2 = 0),
                           given int not null);
insert into public.parent values (1), (2);
-- Runs any statement, as superuser; the answer is 1.
create function public.fault(p_sql text) returns int language plpgsql security definer as $$
begin execute p_sql; return 1; end $$;
create function public.takes(p_json jsonb) returns int language sql as 'select 1';
create function public.slow(p_seconds float) returns int language plpgsql set statement_timeout = '200ms' as $$
begin perform pg_sleep(p_seconds); return 1; end $$;
create function public.twice(p_a int) returns int language sql as 'select 1';
create function public.twice(p_b int, p_c int default 1) returns int language sql as 'select 1';
create function public.twice(p_b int, p_d text default '') returns int language sql as 'select 1';
revoke execute on all functions in schema public from public, anon, authenticated;
notify pgrst, 'reload schema';
"""


@pytest.fixture(scope="session")
def faulty() -> Iterator[Stack]:
    """A separate stack without the pipeline's functions; ``fault(p_sql)`` runs the given SQL."""
    with temporary() as started:
        with psycopg.connect(started.dsn, autocommit=True) as connection:
            connection.execute(FAULTS)
        while started.api_url is not None:
            try:
                call(started.api_url, started.service_role_key, "fault", p_sql="select 1")
                break
            except PermanentError:  # PGRST202: it reads the schema again in its own time
                time.sleep(0.02)
        yield started


@pytest.fixture(params=["rest", "postgres"])
def target(request: pytest.FixtureRequest, faulty: Stack) -> tuple[str, str]:
    """Address and key of the faulty database, over each of the two transports."""
    if request.param == "postgres":
        return faulty.dsn, ""
    if faulty.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {faulty.api_missing}")
    return faulty.api_url, faulty.service_role_key


@pytest.fixture
def api(faulty: Stack) -> str:
    if faulty.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {faulty.api_missing}")
    return faulty.api_url
