"""Calls that are expected to fail, and the properties that every error must have."""

import contextlib
import http.client
import os
import socket
import subprocess
import tempfile
import time
import traceback
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.postgrest_binary import find_postgrest
from agg_pipeline.errors import GatewayError

KEY = "planted-secret-key"


def call(
    url: str,
    key: str = KEY,
    function: str = "agg_contract",
    *,
    rest_path: str = "/",
    timeout_s: float = 10,
    **params: object,
) -> object:
    """One call without the gateway's retries."""
    with contextlib.closing(open_transport(url, key, rest_path=rest_path, timeout_s=timeout_s)) as transport:
        return transport.call(function, params)


def assert_fails(kind: type[GatewayError], code: str, url: str, key: str = KEY, **rest: object) -> GatewayError:
    """Make one call that is expected to fail with this class and code; check its text and return the error."""
    with pytest.raises(GatewayError) as failed:
        call(url, key, **rest)  # type: ignore[arg-type]
    assert (type(failed.value), failed.value.code) == (kind, code), str(failed.value)
    assert_readable(failed.value, key, str(conninfo_to_dict(url).get("password", KEY)) if "sql:" in url else KEY)
    return failed.value


def assert_readable(error: GatewayError, *secrets: str) -> None:
    """Check an error: one short line that names what failed, why and what to do; no secret in it or in its cause."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 1200
    assert text.startswith(f"{error.function} failed: {error.code} {error.message}. ")
    assert error.message
    assert len(error.hint) > 10
    assert text.endswith(error.hint)
    everything = "".join(traceback.format_exception(error))
    assert not [secret for secret in secrets if secret and secret in everything]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextlib.contextmanager
def another_api(stack: Stack, *, is_ready: bool = True, **settings: str | None) -> Iterator[tuple[str, int]]:
    """A second PostgREST on the stack's database, for tests that starve or misconfigure it; its URL and pid.

    It logs in as role ``gate``. A setting of None is left out.
    """
    binary, missing = find_postgrest()
    if binary is None:
        pytest.skip(f"no PostgREST on this machine: {missing}")
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        connection.execute("drop role if exists gate")
        connection.execute("create role gate login noinherit password 'gate'")
        connection.execute("grant anon, service_role to gate")
    port, admin = free_port(), free_port()
    env = {
        "PGRST_DB_URI": make_conninfo(stack.dsn, user="gate", password="gate"),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_JWT_SECRET": stack.jwt_secret,
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(port),
        "PGRST_ADMIN_SERVER_PORT": str(admin),
    } | {f"PGRST_{name.upper()}": value for name, value in settings.items()}
    kept = {name: value for name, value in env.items() if value is not None}
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([binary], env=os.environ | kept, stdout=log, stderr=log) as api,
    ):
        try:
            _wait_for(admin, "/ready" if is_ready else "/live", status=200 if is_ready else None)
            yield f"http://127.0.0.1:{port}", api.pid
        finally:
            api.kill()  # also one that a test has stopped


def _wait_for(port: int, path: str, status: int | None) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", path)
            if connection.getresponse().status == status or status is None:
                return
        time.sleep(0.02)
    raise AssertionError(f"port {port} does not answer {path}")
