"""Servers that stop, hang or lose a session during a call: the error is transient and the next call succeeds."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.transport import Transport, open_transport, retries
from agg_pipeline.embedded import Stack, stop, temporary
from agg_pipeline.errors import GatewayError, TransientError
from agg_pipeline_tests.embedded.processes import wait_until
from agg_pipeline_tests.http.conftest import FAULTS
from agg_pipeline_tests.http.failing import another_api, assert_fails, assert_readable, call

SLEEPING = "from pg_stat_activity where wait_event = 'PgSleep'"


@contextlib.contextmanager
def under_way(transport: Transport, admin: psycopg.Connection, seconds: float = 8) -> Iterator[list[GatewayError]]:
    """Run a call that sleeps in the database; return the error that ends it."""
    failed: list[GatewayError] = []

    def sleep() -> None:
        try:
            transport.call("fault", {"p_sql": f"select pg_sleep({seconds})"})
        except GatewayError as exc:
            failed.append(exc)

    thread = threading.Thread(target=sleep)
    thread.start()
    deadline = time.monotonic() + 5
    while admin.execute(f"select {SLEEPING}").fetchone() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield failed
    finally:
        thread.join()


@pytest.fixture
def admin(faulty: Stack) -> Iterator[psycopg.Connection]:
    with psycopg.connect(faulty.dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def transport(target: tuple[str, str]) -> Iterator[Transport]:
    with contextlib.closing(open_transport(*target, rest_path="/", timeout_s=10)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("order", "codes"),
    [("pg_cancel_backend", {"57014"}), ("pg_terminate_backend", {"57P01", "PGRST001"})],
)
def test_a_call_that_an_operator_ends(
    transport: Transport, admin: psycopg.Connection, faulty: Stack, order: str, codes: set[str]
) -> None:
    with under_way(transport, admin) as failed:
        admin.execute(f"select {order}(pid) {SLEEPING}")
    [error] = failed
    assert (type(error), error.code in codes) == (TransientError, True), error
    assert_readable(error, faulty.service_role_key)
    assert transport.call("fault", {"p_sql": "select 1"}) == 1


def test_sessions_that_end_between_two_calls_cost_a_retry(transport: Transport, admin: psycopg.Connection) -> None:
    """A pool may hold several dead connections, and each is noticed by the call that gets it."""
    transport.call("fault", {"p_sql": "select 1"})
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename is not null"
    )
    assert retries.call(transport, "fault", int, {"p_sql": "select 1"}) == 1


def test_a_starved_pool(faulty: Stack, admin: psycopg.Connection) -> None:
    with another_api(faulty, db_pool="1", db_pool_acquisition_timeout="1") as (url, _):
        busy = open_transport(url, faulty.service_role_key, rest_path="/")
        with contextlib.closing(busy), under_way(busy, admin, seconds=2):
            assert_fails(TransientError, "PGRST003", url, faulty.service_role_key, function="fault", p_sql="select 1")
        assert call(url, faulty.service_role_key, "fault", p_sql="select 1") == 1


def test_an_api_whose_role_has_too_many_connections(faulty: Stack, admin: psycopg.Connection) -> None:
    with another_api(faulty, db_channel_enabled="false") as (url, _):
        admin.execute("alter role gate connection limit 0")
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'gate'")
        codes = []
        while "PGRST000" not in codes and len(codes) < 10:  # first it learns that its old connections are gone
            with pytest.raises(TransientError) as failed:
                call(url, faulty.service_role_key, "fault", p_sql="select 1")
            assert_readable(failed.value, faulty.service_role_key)
            codes.append(failed.value.code)
    assert codes[-1] == "PGRST000", codes
    assert failed.value.retry_after_s is not None
    assert "too many connections" in str(failed.value)


def test_an_api_that_cannot_read_its_schema(faulty: Stack, admin: psycopg.Connection) -> None:
    """Reading it takes longer than the role's statement_timeout; when that is mended, the API finds out by itself.

    A schema that does not exist is no such case: PostgREST 12 reads it as an empty one and answers PGRST106.
    """
    with another_api(faulty) as (url, _):
        admin.execute("alter role gate set statement_timeout = '1ms'")
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'gate'")
        wait_until(lambda: code_of_a_call(url, faulty) == "PGRST002")  # first it learns that its connections are gone
        for _ in range(5):
            assert_fails(TransientError, "PGRST002", url, faulty.service_role_key)
        admin.execute("alter role gate reset statement_timeout")
        wait_until(lambda: code_of_a_call(url, faulty) is None)


def code_of_a_call(url: str, stack: Stack) -> str | None:
    try:
        call(url, stack.service_role_key, "fault", p_sql="select 1")
    except TransientError as error:
        return error.code
    return None


def test_a_postgresql_that_stops() -> None:
    """During a call and before the next ones, over each transport."""
    with temporary() as stack:
        with psycopg.connect(stack.dsn, autocommit=True) as admin:
            admin.execute(FAULTS)
        with contextlib.ExitStack() as cleanup, another_api(stack) as (url, _):
            admin = cleanup.enter_context(psycopg.connect(stack.dsn, autocommit=True))
            direct = cleanup.enter_context(contextlib.closing(open_transport(stack.dsn, "")))
            rest = cleanup.enter_context(contextlib.closing(open_transport(url, stack.service_role_key, rest_path="/")))
            with under_way(direct, admin) as failed, under_way(rest, admin) as failed_too:
                stop(stack.root)
            assert [error.code for error in failed] == ["57P01"]
            # 400: an answer without a code, about once in twenty times.
            assert [error.code in ("57P01", "PGRST000", "PGRST001", "400") for error in failed_too] == [True], (
                failed_too
            )
            assert [type(error) for error in failed_too] == [TransientError]
            for address, key, codes in (
                (url, stack.service_role_key, {"PGRST000", "PGRST001", "PGRST002"}),
                (stack.dsn, "", {"OperationalError"}),
            ):
                with pytest.raises(TransientError) as refused:
                    call(address, key, "fault", p_sql="select 1")
                assert refused.value.code in codes
                assert_readable(refused.value, key, stack.dsn)


def test_an_api_that_hangs_and_one_that_is_killed(faulty: Stack, admin: psycopg.Connection) -> None:
    with another_api(faulty) as (url, pid):
        os.kill(pid, signal.SIGSTOP)
        assert_fails(
            TransientError, "ReadTimeout", url, faulty.service_role_key, timeout_s=0.5, function="fault", p_sql="x"
        )
        os.kill(pid, signal.SIGCONT)
        transport = open_transport(url, faulty.service_role_key, rest_path="/")
        with contextlib.closing(transport), under_way(transport, admin, seconds=1) as failed:
            os.kill(pid, signal.SIGKILL)
        [error] = failed
        assert (type(error), error.code) == (TransientError, "RemoteProtocolError")
        assert_readable(error, faulty.service_role_key)


def test_an_api_whose_database_does_not_respond(faulty: Stack, admin: psycopg.Connection) -> None:
    with another_api(faulty, db_pool="2") as (url, _):
        call(url, faulty.service_role_key, "fault", p_sql="select 1")
        pids = [pid for (pid,) in admin.execute("select pid from pg_stat_activity where usename = 'gate'").fetchall()]
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert_fails(
                TransientError, "ReadTimeout", url, faulty.service_role_key, timeout_s=0.5, function="fault", p_sql="x"
            )
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert call(url, faulty.service_role_key, "fault", p_sql="select 1") == 1
