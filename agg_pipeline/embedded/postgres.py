"""PostgreSQL: its data folder, settings, order for the supervisor, roles and databases, and a server left behind."""

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
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder

ROLES: Path = Path(__file__).with_name("roles.sql")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # none: their paths are limited to 107 bytes, and kill -9 leaves the files behind
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",  # nothing replicates this database
    "max_wal_senders": "0",
    # A crash ends the server and the supervisor restarts it. One that restarts itself (15 to 18) ignores a fast
    # shutdown meanwhile, and the stop takes the whole grace period.
    "restart_after_crash": "off",
    "random_page_cost": "1.1",
    "jit": "off",  # compiling takes longer than our queries
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "password_encryption": "scram-sha-256",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}  # commits survive the end of any process, not a power cut
STOP_GRACE_S = 60.0  # the checkpoint of a fast shutdown writes shared_buffers and more


def url(state: State, *, user: str = "postgres", database: str = "postgres") -> str:
    """URL of a database with its password. It sets sslmode, or a PGSSLMODE meant for a hosted project would apply."""
    password = {
        "postgres": state.password,
        "authenticator": state.authenticator_password,
        "dagster": state.dagster_password,
    }[user]
    return f"postgresql://{user}:{password}@127.0.0.1:{state.db_port}/{database}?sslmode=disable"


def version_of(data: Path) -> int | None:
    """Major version that wrote the data folder; None if there is no data yet."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def initialize(layout: Layout, identity: Identity, state: State, *, durable: bool) -> None:
    """Make the data folder with initdb; it gets its name when it is complete, so an interrupted run leaves none."""
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
    """Give the superuser the password of a new state, for data whose state file is lost. The server must not run."""
    done = identity.run(
        [str(identity.bin_dir / "postgres"), "--single", "-D", str(layout.data), "postgres"],
        stdin=f"alter role postgres password '{state.password}'\n",
    )
    if done.returncode:
        raise EmbeddedError(
            f"The password of {layout.data} could not be reset: {done.stdout.strip()[-600:]}",
            remedy=f"Restore {layout.state}, or remove {layout.root} and start again.",
        )


def server_order(
    layout: Layout, identity: Identity, postgres: Postgres, state: State, *, durable: bool
) -> ServiceOrder:
    """Order for the supervisor. SIGINT is PostgreSQL's fast shutdown: it ends sessions and writes a checkpoint."""
    settings = SETTINGS | ({} if durable else NOT_DURABLE) | {"port": str(state.db_port)}
    if postgres.major >= 18:
        settings["io_method"] = "sync"  # the default runs three more processes, which cost more than they gain here
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    env = environment()
    if (left := stale_pid(layout.data)) is not None:
        # A server killed with SIGKILL leaves its pid in a file, and the next one refuses to start while any process has
        # that pid: an unrelated one after a reboot, a zombie in a container. This variable excludes the pid from the
        # check. PostgreSQL's own check for surviving sessions (their shared memory) stays on, which it would not if we
        # removed the file.
        env["PG_GRANDPARENT_PID"] = str(left)
    return ServiceOrder(
        name="postgres",
        argv=identity.argv([str(identity.bin_dir / "postgres"), "-D", str(layout.data), *options]),
        env=env,
        log=str(layout.log("postgres")),
        uid=identity.uid,
        gid=identity.gid,
        stop_signal=int(signal.SIGINT),
        grace_s=STOP_GRACE_S,
    )


def stale_pid(data: Path) -> int | None:
    """Pid in a postmaster.pid whose server has ended; None if there is no file or its server runs."""
    pid = _recorded_pid(data)
    return None if pid is None or _serves(pid, data) else pid


def stop_orphan(data: Path) -> bool:
    """Stop a server that outlived its supervisor (on Linux the kernel ends it); True if there was one."""
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
    """Whether the process with this pid serves this folder. That the pid exists is not enough: it may be reused."""
    if sys.platform == "linux":
        try:  # the working folder of a server is its data folder; a zombie has none
            return Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
        except OSError:
            return False
    ps = ["ps", "-o", "stat=,command=", "-p", str(pid)]
    shown = subprocess.run(ps, check=False, capture_output=True, text=True).stdout.strip()
    return not shown.startswith("Z") and str(data) in shown


def answers(state: State) -> bool:
    """Whether our PostgreSQL accepts a login. Raises EmbeddedError if it refuses the stored password."""
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
    """Connect in autocommit mode, without the user's PGOPTIONS."""
    return psycopg.connect(dsn, autocommit=True, connect_timeout=3, options="")


def port_was_taken(log: str) -> bool:
    """Whether a server's log says that another process has its port."""
    return re.search(r"Address already in use|could not bind|resource busy", log) is not None


def sessions_survive(log: str) -> bool:
    """Whether PostgreSQL did not start because sessions of a killed server go on: each ends with its statement."""
    return "pre-existing shared memory block" in log


def prepare_databases(state: State) -> None:
    """Make roles, privileges and Dagster's database once per data folder; set the passwords of the state each time."""
    with connect(url(state)) as connection:
        with connection.transaction():
            if not _exists(connection, "select from pg_roles where rolname = 'authenticator'"):
                connection.execute(ROLES.read_bytes())
            passwords = {"authenticator": state.authenticator_password, "dagster": state.dagster_password}
            for role, password in passwords.items():
                # Sent as a verifier, so that the password itself cannot appear in the server's log.
                verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
                alter = sql.SQL("alter role {} password {}")
                connection.execute(alter.format(sql.Identifier(role), sql.Literal(verifier.decode())))
        if not _exists(connection, "select from pg_database where datname = 'dagster'"):
            connection.execute("create database dagster owner dagster template template0")
            connection.execute("alter database dagster set timezone to 'UTC'")


def _exists(connection: psycopg.Connection, query: LiteralString) -> bool:
    return connection.execute(query).fetchone() is not None
