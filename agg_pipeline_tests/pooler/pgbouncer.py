"""A PgBouncer of our own in front of the test database, and the state of the one session that its pool has."""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from agg_pipeline.embedded.ports import accepts_connections, free_port
from agg_pipeline.embedded.privilege import USERS, environment
from agg_pipeline_tests.embedded.processes import wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
MISSING = "no pgbouncer on this machine: `apt-get install pgbouncer`, as .ci/run does where it is root"

# What a session keeps when its transaction is over. Settings that the client's login brings (application_name, ...) are
# the same before and after, since the same client asks.
_STATE = """
select pg_backend_pid() as pid, current_user::text as role, session_user::text as login,
       (select jsonb_object_agg(name, setting) from pg_settings) as settings,
       (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as advisory_locks,
       (select count(*) from pg_prepared_statements) as prepared_statements,
       (select count(*) from pg_cursors where is_holdable) as held_cursors,
       (select count(*) from pg_class where relnamespace = pg_my_temp_schema()) as temporary_tables,
       (select count(*) from pg_listening_channels()) as listening"""


def version(program: str) -> tuple[int, int]:
    """Version of a PgBouncer, as (1, 18)."""
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found, said
    return int(found[1]), int(found[2])


@contextlib.contextmanager
def pgbouncer(dsn: str, **settings: str | int) -> Iterator[str]:
    """A PgBouncer in front of the database of ``dsn``; the URL of the same database through it.

    Transaction mode with a pool of one session, all else at its default: so it refuses startup options. A client that
    waits for itself fails after ten seconds. It refuses to run as root, so it then runs as an unprivileged user.
    """
    if PROGRAM is None:
        pytest.skip(MISSING)
    own = conninfo_to_dict(dsn)
    port = free_port()
    # Since 1.21 it can carry prepared statements from session to session; Supavisor and older ones cannot.
    ours = {"max_prepared_statements": 0} if version(PROGRAM) >= (1, 21) else {}
    wanted = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "pool_mode": "transaction",
        "default_pool_size": 1, "query_wait_timeout": 10, **ours, **settings,
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="agg-pgbouncer-") as made, tempfile.TemporaryFile() as log:
        folder = Path(made)
        (folder / "users.txt").write_text(f'"{own["user"]}" "{own["password"]}"\n')
        lines = ["[databases]", f"* = host={own['host']} port={own['port']}", "[pgbouncer]"]
        lines += [f"auth_file = {folder / 'users.txt'}", *(f"{name} = {value}" for name, value in wanted.items())]
        (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(USERS[0])
            as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            for path in (folder, *folder.iterdir()):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        with subprocess.Popen(
            [PROGRAM, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, env=environment(), cwd="/", **as_user
        ) as process:
            try:
                wait_until(lambda: process.poll() is not None or accepts_connections(port))
                assert process.poll() is None, _text(log)
                yield f"postgresql://{own['user']}:{own['password']}@127.0.0.1:{port}/{own['dbname']}?sslmode=disable"
            finally:
                process.kill()


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode()


def session_state(url: str) -> dict[str, Any]:
    """What the session of the pool looks like to another client, who has made nothing himself."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None, row_factory=dict_row) as client:
        state = client.execute(_STATE).fetchone()
        assert state is not None
        return state


@contextlib.contextmanager
def leaves_nothing(url: str) -> Iterator[None]:
    """What is done meanwhile leaves the session of the pool as it was."""
    before = session_state(url)
    yield
    after = session_state(url)
    for state in (before, after):
        state.update(state.pop("settings"))
        state.pop("pid")  # PgBouncer replaces a session whose client left before its last answer
    # Another role does not see all of them.
    changed = {name: (value, after.get(name)) for name, value in before.items() if value != after.get(name)}
    assert changed == {}, changed
    clean = ("advisory_locks", "prepared_statements", "held_cursors", "temporary_tables", "listening")
    assert {name: after[name] for name in clean} == dict.fromkeys(clean, 0)
    assert after["default_transaction_read_only"] == "off"
