"""The PostgreSQL part: make the data folder, the command line, what a dead server left behind, roles and databases."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import POLL_S, Layout, State
from agg_pipeline.embedded.postgres_binary import Postgres
from agg_pipeline.embedded.privilege import Identity, environment

ROLES: Path = Path(__file__).with_name("roles.sql")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # none: 107 bytes of path at most, and kill -9 leaves them behind
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",  # nothing replicates this database
    "max_wal_senders": "0",
    # A crash ends the server, and the supervisor starts it: one that restarts itself does not obey a fast shutdown
    # in that time (15 to 18), and every stop then takes its whole grace.
    "restart_after_crash": "off",
    "random_page_cost": "1.1",
    "jit": "off",  # compiles for longer than our queries run
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "password_encryption": "scram-sha-256",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # commits still survive the death of any process
STOP_GRACE_S = 60.0  # the checkpoint of a fast shutdown writes up to shared_buffers and more


def url(state: State, *, user: str = "postgres", database: str = "postgres") -> str:
    """URL of a database with its password. sslmode is named, or PGSSLMODE of a hosted project would apply."""
    password = {
        "postgres": state.password,
        "authenticator": state.authenticator_password,
        "dagster": state.dagster_password,
    }[user]
    return f"postgresql://{user}:{password}@127.0.0.1:{state.db_port}/{database}?sslmode=disable"


def version_of(data: Path) -> int | None:
    """Major version that wrote the data folder; None when there is no data yet."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def initialize(layout: Layout, identity: Identity, state: State, *, durable: bool) -> None:
    """Make the data folder. Built beside and moved, so that an interrupted run leaves nothing half made."""
    draft, password = layout.root / "data.new", layout.root / ".password"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password.unlink(missing_ok=True)
    password.touch(mode=0o600)
    password.write_text(state.password)
    try:
        identity.give(draft)
        identity.give(password)
        done = identity.run(
            [
                str(identity.bin_dir / "initdb"),
                "-D",
                str(draft),
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                f"--pwfile={password}",
                "--locale=C",
                "-E",
                "UTF8",
                "--no-instructions",
                *([] if durable else ["--no-sync"]),
            ]
        )
    finally:
        password.unlink(missing_ok=True)
    if done.returncode:
        raise EmbeddedError(
            f"initdb of {layout.data} failed: {done.stdout.strip()[-600:]}",
            remedy="Check free space and the rights on the folder.",
        )
    draft.rename(layout.data)


def reset_password(layout: Layout, identity: Identity, state: State) -> None:
    """Give the superuser the password of a new state, for data whose state file is lost. The server must be down."""
    done = identity.run(
        [str(identity.bin_dir / "postgres"), "--single", "-D", str(layout.data), "postgres"],
        stdin=f"alter role postgres password '{state.password}'\n",
    )
    if done.returncode:
        raise EmbeddedError(
            f"The password of {layout.data} could not be reset: {done.stdout.strip()[-600:]}",
            remedy=f"Restore {layout.state}, or remove {layout.root} and start anew.",
        )


def server_order(
    layout: Layout, identity: Identity, postgres: Postgres, state: State, *, durable: bool
) -> dict[str, object]:
    """Order for the supervisor. SIGINT is PostgreSQL's fast shutdown: it ends sessions and is consistent on disk."""
    settings = SETTINGS | ({} if durable else NOT_DURABLE) | {"port": str(state.db_port)}
    if postgres.major >= 18:
        settings["io_method"] = "sync"  # the default's three more processes do not pay on a small machine
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    env = environment()
    if (left := stale_pid(layout.data)) is not None:
        # A server killed with -9 leaves its pid in a file, and the next one refuses to start while any process has
        # that pid: a stranger after a reboot, a zombie in a container. This variable excuses the pid; PostgreSQL's own
        # check for surviving sessions (their shared memory) stays on, which it would not if we removed the file.
        env["PG_GRANDPARENT_PID"] = str(left)
    command = [str(identity.bin_dir / "postgres"), "-D", str(layout.data), *options]
    return {
        "name": "postgres",
        "argv": identity.argv(command),
        "env": env,
        "uid": identity.uid,
        "gid": identity.gid,
        "log": str(layout.log("postgres")),
        "stop": int(signal.SIGINT),
        "grace_s": STOP_GRACE_S,
    }


def stale_pid(data: Path) -> int | None:
    """Pid that a dead server left in postmaster.pid; None where there is no file or its server is alive."""
    pid = _recorded_pid(data)
    return None if pid is None or _serves(pid, data) else pid


def stop_orphan(data: Path) -> bool:
    """Stop a server that outlived its supervisor (not on Linux, where the kernel sees to it); True if there was one."""
    pid = _recorded_pid(data)
    if pid is None or not _serves(pid, data):
        return False
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_GRACE_S
    while _serves(pid, data):
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"PostgreSQL pid {pid} on {data} does not stop.", remedy=f"End its sessions, or run: kill -QUIT {pid}"
            )
        time.sleep(POLL_S)
    return True


def _recorded_pid(data: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((data / "postmaster.pid").read_text().splitlines()[0])
    return None


def _serves(pid: int, data: Path) -> bool:
    """Whether a live process with this pid serves this folder; "the pid exists" would believe zombies and strangers."""
    if sys.platform == "linux":
        try:  # a server's working folder is its data; a zombie has none
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
        except OSError:
            return False
    ps = ["ps", "-o", "stat=,command=", "-p", str(pid)]
    shown = subprocess.run(ps, check=False, capture_output=True, text=True).stdout.strip()
    return not shown.startswith("Z") and str(data) in shown


def answers(state: State) -> bool:
    """Whether our PostgreSQL accepts a login at the port of the state."""
    try:
        connect(url(state)).close()
    except psycopg.OperationalError as exc:
        if "password authentication failed" not in str(exc):
            return False
        raise EmbeddedError(
            f"PostgreSQL at 127.0.0.1:{state.db_port} refuses the stored password of role postgres.",
            remedy="Stop the stack and remove its state.json: the next start sets new passwords and keeps the data.",
        ) from None
    return True


def connect(dsn: str) -> psycopg.Connection:
    """Connect in autocommit mode, not swayed by the user's PGOPTIONS."""
    return psycopg.connect(dsn, autocommit=True, connect_timeout=3, options="")


def port_was_taken(log: str) -> bool:
    """Whether a server's log says that somebody else has its port."""
    return re.search(r"Address already in use|could not bind|resource busy", log) is not None


def sessions_survive(log: str) -> bool:
    """Whether PostgreSQL waits for sessions of its killed predecessor: a busy one ends only with its statement."""
    return "pre-existing shared memory block" in log


def prepare_databases(state: State) -> None:
    """Roles, privileges and Dagster's database, once per data folder; passwords each time, as the state may be new."""
    with connect(url(state)) as connection:
        with connection.transaction():
            if not _exists(connection, "select from pg_roles where rolname = 'authenticator'"):
                connection.execute(ROLES.read_bytes())
            passwords = {"authenticator": state.authenticator_password, "dagster": state.dagster_password}
            for role, password in passwords.items():
                # Sent as a verifier, so that the password itself can never show up in the server's log.
                verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
                alter = sql.SQL("alter role {} password {}")
                connection.execute(alter.format(sql.Identifier(role), sql.Literal(verifier.decode())))
        if not _exists(connection, "select from pg_database where datname = 'dagster'"):
            connection.execute("create database dagster owner dagster template template0")
            connection.execute("alter database dagster set timezone to 'UTC'")


def _exists(connection: psycopg.Connection, query: LiteralString) -> bool:
    return connection.execute(query).fetchone() is not None
