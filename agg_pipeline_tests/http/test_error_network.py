"""Failures of network, proxies and load balancers: their classification, and how soon they are raised."""

import contextlib
import email.utils
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack
from agg_pipeline.errors import GatewayError, PermanentError, TransientError
from agg_pipeline_tests.http import sockets
from agg_pipeline_tests.http.failing import KEY, assert_fails, assert_readable, call, free_port

ANSWER = b'{"code": null, "message": "cut off here", "details": "and never whole"}'
CUT = sockets.http_answer(200, ANSWER).removesuffix(ANSWER[20:])
BEHAVIOURS = {
    "closed before the answer": (sockets.answers(b""), "RemoteProtocolError"),
    "closed in the answer": (sockets.answers(CUT), "RemoteProtocolError"),
    "garbage": (sockets.answers(b"SSH-2.0-not-http\r\n\r\n"), "RemoteProtocolError"),
    "reset": (sockets.resets, "ReadError"),
    "silent": (sockets.says_nothing, "ReadTimeout"),
}


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_broken_connection_is_transient(name: str) -> None:
    behave, code = BEHAVIOURS[name]
    with sockets.peer(behave) as port:
        began = time.monotonic()
        assert_fails(TransientError, code, f"http://127.0.0.1:{port}", timeout_s=0.5)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "behave", [sockets.answers(b""), sockets.answers(b"SSH-2.0\r\n"), sockets.resets, sockets.says_nothing]
)
def test_a_server_that_is_no_database_is_transient(behave: sockets.Behave) -> None:
    code = "ConnectionTimeout" if behave is sockets.says_nothing else "OperationalError"
    with sockets.peer(behave) as port:
        began = time.monotonic()
        assert_fails(TransientError, code, f"postgresql://me:{KEY}@127.0.0.1:{port}/d?sslmode=disable", timeout_s=0.5)
        assert time.monotonic() - began < 4


def test_a_refused_connection_and_an_unknown_host() -> None:
    assert_fails(TransientError, "ConnectError", f"http://127.0.0.1:{free_port()}")
    assert_fails(TransientError, "ConnectError", "http://nobody.invalid")
    assert_fails(TransientError, "OperationalError", f"postgresql://me:{KEY}@127.0.0.1:{free_port()}/d")
    assert_fails(TransientError, "OperationalError", f"postgresql://me:{KEY}@nobody.invalid/d")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses or takes more than it says")
def test_a_server_too_busy_to_accept() -> None:
    with sockets.full_backlog() as port:
        assert_fails(TransientError, "ConnectTimeout", f"http://127.0.0.1:{port}", timeout_s=0.3)
        assert_fails(TransientError, "ConnectionTimeout", f"postgresql://me:{KEY}@127.0.0.1:{port}/d", timeout_s=0.3)


def test_a_peer_that_does_not_read_the_request() -> None:
    with sockets.peer(sockets.says_nothing) as port:
        assert_fails(TransientError, "WriteTimeout", f"http://127.0.0.1:{port}", timeout_s=0.5, p_bars="x" * 50_000_000)


def test_a_pool_whose_connections_are_all_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx, "Client", functools.partial(httpx.Client, limits=httpx.Limits(max_connections=1)))
    with (
        sockets.peer(sockets.dribbles) as port,
        # /rest/v1, since with another path the limits would be that path's own.
        contextlib.closing(open_transport(f"http://127.0.0.1:{port}", KEY, timeout_s=0.3)) as transport,
    ):
        busy = threading.Thread(target=pytest.raises, args=(TransientError, transport.call, "f", {}))
        busy.start()
        time.sleep(0.2)
        with pytest.raises(TransientError) as failed:
            transport.call("f", {})
        busy.join()
    assert failed.value.code == "PoolTimeout"
    assert_readable(failed.value, KEY)


def test_a_call_on_a_closed_client_is_permanent() -> None:
    transport = open_transport(f"http://127.0.0.1:{free_port()}", KEY)
    transport.close()
    with pytest.raises(PermanentError) as failed:
        transport.call("f", {})
    assert failed.value.code == "RuntimeError"
    assert_readable(failed.value, KEY)


HTML = b"<html><body>" + b"Something went wrong. " * 200 + b"</body></html>"
TRANSIENT = [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 530]
PERMANENT = [301, 302, 307, 308, 400, 401, 403, 404, 405, 413, 415, 431, 501]


@pytest.mark.parametrize("status", TRANSIENT + PERMANENT)
@pytest.mark.parametrize("wish", [None, "7"])
def test_a_page_of_a_proxy_is_classified_by_its_status(status: int, wish: str | None) -> None:
    headers = [] if wish is None else [f"retry-after: {wish}"]
    with sockets.peer(sockets.answers(sockets.http_answer(status, HTML, "text/html", *headers))) as port:
        kind = TransientError if status in TRANSIENT else PermanentError
        error = assert_fails(kind, str(status), f"http://127.0.0.1:{port}")
    assert error.message == f"HTTP {status} from http://127.0.0.1:{port}", "nothing of the page"
    assert error.retry_after_s == (7.0 if wish and status in TRANSIENT else None)


@pytest.mark.parametrize(
    "body", [b'{"message": "slow down"}', b"{}", b"[]", b"null", b'"text"', b"7", b"{cut", b"", b"\xff\xfe"]
)
@pytest.mark.parametrize(("status", "kind"), [(429, TransientError), (401, PermanentError)])
def test_a_body_without_code_is_classified_by_the_status(body: bytes, status: int, kind: type[GatewayError]) -> None:
    with sockets.peer(sockets.answers(sockets.http_answer(status, body))) as port:
        assert_fails(kind, str(status), f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("body", [HTML, b"{cut", b"\xff\xfe"])
def test_a_page_with_status_200_is_an_error(body: bytes) -> None:
    with sockets.peer(sockets.answers(sockets.http_answer(200, body, "text/html"))) as port:
        assert_fails(TransientError, "shape", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("wish", "low", "high"),
    [
        ("0", 0, 0), ("120", 120, 120), ("9" * 400, 1e300, float("inf")),
        (100, 80, 100), (-100, 0, 0), ("-0000", 80, 100),
    ],
)  # fmt: skip
def test_retry_after_comes_as_seconds_or_as_a_date(wish: str | int, low: float, high: float) -> None:
    date = email.utils.formatdate(time.time() + (wish if isinstance(wish, int) else 100), usegmt=True)
    header = date if isinstance(wish, int) else date.replace("GMT", wish) if wish == "-0000" else wish
    answer = sockets.http_answer(503, b"{}", "application/json", f"retry-after: {header}")
    with sockets.peer(sockets.answers(answer)) as port:
        seconds = assert_fails(TransientError, "503", f"http://127.0.0.1:{port}").retry_after_s
    assert seconds is not None
    assert low <= seconds <= high


@pytest.mark.parametrize("wish", ["", "soon", "-5", "nan", "inf", "1.5", "Wed, 99 Nov 2026 08:00:00 GMT"])
def test_an_invalid_retry_after_is_ignored(wish: str) -> None:
    with sockets.peer(
        sockets.answers(sockets.http_answer(503, b"{}", "application/json", f"retry-after: {wish}"))
    ) as port:
        assert assert_fails(TransientError, "503", f"http://127.0.0.1:{port}").retry_after_s is None


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:9", f"{KEY}\n"), ("http://127.0.0.1:9", f"{KEY}é"), ("http://127.0.0.1:9", f"two {KEY}"),
        ("http://[::1", KEY), ("ftp://127.0.0.1", KEY), (f"http://me:{KEY}@127.0.0.1:99999", KEY),
        (f"postgresql://me:50%off-{KEY}@127.0.0.1/d", ""), (f"postgresql://me:at@{KEY}@127.0.0.1/d", ""),
        (f"postgresql://me:{KEY} blank@127.0.0.1/d", ""),
    ],
)  # fmt: skip
def test_an_address_or_a_key_that_cannot_be_used_is_not_shown(url: str, key: str) -> None:
    """A special character in a password makes the URL parse differently; the error must not show it."""
    with pytest.raises(PermanentError) as failed:
        call(url, key)
    assert_readable(failed.value, KEY)


@pytest.fixture
def stopped_backend(faulty: Stack) -> Iterator[list[int]]:
    """Pids that the test has stopped with SIGSTOP; they are continued afterwards."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_an_unresponsive_database_is_disconnected_and_the_next_call_reconnects(
    faulty: Stack, stopped_backend: list[int]
) -> None:
    with contextlib.closing(open_transport(faulty.dsn, "", timeout_s=0.5)) as transport:
        assert transport.call("fault", {"p_sql": "select 1"}) == 1
        with psycopg.connect(faulty.dsn) as admin:
            found = admin.execute(
                "select pid from pg_stat_activity where query like '%%fault%%' and pid <> pg_backend_pid()"
            ).fetchall()
        stopped_backend += [pid for (pid,) in found]
        for pid in stopped_backend:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(TransientError, match=r"no response within 0\.5 s") as failed:
            transport.call("fault", {"p_sql": "select 1"})
        assert 0.5 <= time.monotonic() - began < 1.5
        assert failed.value.code == "TimeoutError"
        assert_readable(failed.value, faulty.dsn)
        assert transport.call("fault", {"p_sql": "select 1"}) == 1, "on a new connection"
        assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_parameters_of_the_database_url_take_precedence(faulty: Stack) -> None:
    shown = "do $$ begin raise exception '% % %', current_setting('statement_timeout'), current_setting('timezone'), " \
        "current_setting('lock_timeout'); end $$"  # fmt: skip
    url = f"{faulty.dsn}&options=-c%20lock_timeout%3D700"
    for address, expected in ((faulty.dsn, "24s UTC 0"), (url, "24s UTC 700ms")):
        assert expected in str(
            assert_fails(PermanentError, "P0001", address, "", timeout_s=30, function="fault", p_sql=shown)
        )
