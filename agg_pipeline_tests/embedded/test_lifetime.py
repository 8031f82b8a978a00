"""Start, attach, stop: what survives, and that nothing is left behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from agg_pipeline import embedded
from agg_pipeline.embedded.files import Layout, State
from agg_pipeline_tests.embedded.processes import (
    REPOSITORY,
    OwnerProcess,
    Starter,
    api_answers,
    is_alive,
    kill_all,
    listens,
    pids,
    remember,
    remembers,
    run_python,
    wait_until,
    wait_until_gone,
)

ATTACH = """
import json, pathlib, sys
from agg_pipeline import embedded
with embedded.started(pathlib.Path(sys.argv[1])) as stack:
    print(json.dumps([stack.dsn, stack.api_url]))
"""


def test_a_restart_keeps_data_url_and_key(root: Path, start: Starter) -> None:
    """What stands in an .env file stays right."""
    before = start(root)
    remember(before, "restart")
    before_pids = pids(root)
    assert start(root) == embedded.running(root) == before
    assert pids(root)["supervisor"] == before_pids["supervisor"], "a second start attaches"
    assert embedded.stop(root)
    wait_until_gone(before_pids)
    assert not embedded.stop(root)
    assert embedded.running(root) is None
    after = start(root, durable=True)
    assert after == before
    assert remembers(after, "restart")
    assert api_answers(after)


def test_a_folder_that_never_ran(tmp_path: Path) -> None:
    """Asking or stopping makes nothing."""
    assert embedded.running(tmp_path / "none") is None
    assert not embedded.stop(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_another_process_attaches_and_does_not_own(root: Path, start: Starter) -> None:
    """Its end does not take the servers with it."""
    stack = start(root)
    assert run_python(ATTACH, str(root)) == [stack.dsn, stack.api_url]
    assert embedded.running(root) == stack
    assert api_answers(stack)


def test_starts_at_the_same_moment_share_one_stack(root: Path, start: Starter) -> None:
    """The second one waits for its turn and attaches, in threads as in processes."""
    stacks: list[embedded.Stack] = []
    threads = [threading.Thread(target=lambda: stacks.append(start(root))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stacks) == 4
    assert len(set(stacks)) == 1
    assert embedded.running(root) == stacks[0], "the thread that started it has ended"


@pytest.mark.nightly
def test_another_process_may_stop_it(root: Path, owner: OwnerProcess, start: Starter) -> None:
    """The owner lives on, and may start it again."""
    processes = pids(root)
    assert embedded.stop(root)
    wait_until_gone(processes)
    assert owner.process.poll() is None
    assert api_answers(start(root))


@pytest.mark.nightly
def test_the_end_of_the_owner_is_the_end_of_the_servers(root: Path, owner: OwnerProcess) -> None:
    """When the command has returned, nothing runs any more: it waits for a server that takes its time."""
    processes = pids(root)
    os.kill(processes["postgres"], signal.SIGSTOP)
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        owner.process.wait(0.7)
    os.kill(processes["postgres"], signal.SIGCONT)
    owner.process.wait(10)
    assert not any(is_alive(pid) for pid in processes.values())


def test_kill_9_of_the_owner_leaves_no_process(root: Path, owner: OwnerProcess, start: Starter) -> None:
    """And no loss: the servers shut down in order."""
    stack = start(root, durable=True)
    remember(stack, "owner killed")
    processes = pids(root)
    assert len(processes) > 3, "PostgreSQL's own processes are counted too"
    owner.kill()
    wait_until_gone(processes)
    assert not listens(stack.dsn)
    assert remembers(start(root), "owner killed")


@pytest.mark.nightly
def test_start_while_the_killed_owners_servers_are_stopping(root: Path, owner: OwnerProcess, start: Starter) -> None:
    """A new start never attaches to what is on its way down."""
    owner.kill()
    stack = start(root)
    assert api_answers(stack)
    remember(stack, "still up")


def test_kill_9_of_the_postmaster_heals(root: Path, start: Starter) -> None:
    """The supervisor starts it again; committed rows survive."""
    stack = start(root)
    remember(stack, "postmaster killed")
    killed = pids(root)["postgres"]
    os.kill(killed, signal.SIGKILL)
    wait_until_gone({"postgres": killed})
    assert start(root, durable=True) == stack
    assert remembers(stack, "postmaster killed")
    wait_until(lambda: api_answers(stack))
    assert pids(root)["postgres"] != killed


@pytest.mark.nightly
def test_kill_9_of_a_process_of_postgresql_heals_and_holds_up_no_stop(root: Path, start: Starter) -> None:
    """A server that recovers by itself does not hear that it shall stop; ours ends, and its successor hears it."""
    stack = start(root)
    remember(stack, "checkpointer killed")
    killed = pids(root)["postgres"]
    with psycopg.connect(stack.dsn) as connection:
        (checkpointer,) = connection.execute(
            "select pid from pg_stat_activity where backend_type = 'checkpointer'"
        ).fetchall()[0]
    os.kill(checkpointer, signal.SIGKILL)
    wait_until_gone({"postgres": killed})
    assert embedded.stop(root)
    assert "did not end" not in Layout(root).log("supervisor").read_text()
    assert remembers(start(root), "checkpointer killed")


def test_kill_9_of_postgrest_heals(root: Path, start: Starter) -> None:
    """start() attaches only when the API answers again."""
    stack = start(root)
    if stack.api_url is None:
        pytest.skip(f"no PostgREST: {stack.api_missing}")
    killed = pids(root)["postgrest"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not listens(str(stack.api_url)))
    assert start(root, durable=True) == stack
    assert api_answers(stack)


@pytest.mark.skipif(sys.platform != "linux", reason="relies on the parent-death signal")
def test_kill_9_of_the_supervisor_leaves_no_process(root: Path, start: Starter) -> None:
    """The next start begins anew in the same process."""
    stack = start(root)
    processes = pids(root)
    os.kill(processes["supervisor"], signal.SIGKILL)
    wait_until_gone(processes)
    assert embedded.running(root) is None
    assert start(root) == stack


@pytest.mark.nightly
def test_kill_9_of_everything_though_a_stranger_has_the_pid(root: Path, start: Starter) -> None:
    """A stale postmaster.pid whose number belongs to a live process by now, as after a reboot."""
    stack = start(root)
    remember(stack, "all killed")
    processes = pids(root)
    kill_all({name: pid for name, pid in processes.items() if " " not in name})
    wait_until_gone(processes)
    left = Layout(root).data / "postmaster.pid"
    _, *rest = left.read_text().splitlines(keepends=True)
    with stranger(Layout(root).data) as process:
        left.write_text("".join([f"{process.pid}\n", *rest]))
        stack = start(root)
        assert remembers(stack, "all killed")
        assert process.poll() is None
        process.kill()


def stranger(data: Path) -> subprocess.Popen[bytes]:
    """A process of the user who owns the data: PostgreSQL forgives pids of other users by itself."""
    return subprocess.Popen(["sleep", "20"], user=data.stat().st_uid if os.geteuid() == 0 else None)


def test_a_taken_port_is_replaced(root: Path, start: Starter) -> None:
    """The URL changes only when somebody else has the port."""
    port = State.load(Layout(root).state).db_port  # type: ignore[union-attr]
    with socket.create_server(("127.0.0.1", port)):
        stack = start(root)
        assert urlsplit(stack.dsn).port != port
        assert api_answers(stack)


def test_a_lost_state_file_costs_the_secrets_not_the_data(root: Path, start: Starter) -> None:
    """New password, new key, the same rows."""
    before = start(root)
    remember(before, "state lost")
    embedded.stop(root)
    Layout(root).state.unlink()
    after = start(root)
    assert after.dsn != before.dsn
    assert after.service_role_key != before.service_role_key
    assert remembers(after, "state lost")
    assert api_answers(after)


def test_a_changed_password_is_named_at_once(root: Path, start: Starter) -> None:
    """With the way out, which works."""
    stack = start(root)
    with psycopg.connect(stack.dsn) as connection:
        connection.execute("alter role postgres password 'another'")
    with pytest.raises(embedded.EmbeddedError, match="refuses the stored password"):
        embedded.running(root)
    embedded.stop(root)
    began = time.monotonic()
    with pytest.raises(embedded.EmbeddedError, match=r"remove its state\.json"):
        start(root)
    assert time.monotonic() - began < 10
    assert embedded.running(root) is None, "a failed start leaves nothing"
    Layout(root).state.unlink()
    assert api_answers(start(root))


def test_a_restart_does_not_open_what_migrations_closed(root: Path, start: Starter) -> None:
    """The default privileges are Supabase's once, not at each start."""
    stack = start(root)
    revoke = "alter default privileges in schema public revoke all on tables from anon"
    granted = "select defaclacl::text ~ '[{,]anon=' from pg_default_acl where defaclobjtype = 'r'"
    with psycopg.connect(stack.dsn, autocommit=True) as connection:
        assert connection.execute(granted).fetchone() == (True,)
        connection.execute(revoke)
    embedded.stop(root)
    with psycopg.connect(start(root).dsn) as connection:
        assert connection.execute(granted).fetchone() == (False,)


TEMPORARY = """
import sys
from agg_pipeline import embedded
with embedded.temporary() as stack:
    print(stack.root, flush=True)
    sys.stdin.read()
"""


def test_a_killed_temporary_leaves_nothing() -> None:
    """Neither process nor folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", TEMPORARY], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    processes = pids(folder)
    assert len(processes) > 2
    process.kill()
    process.communicate()
    wait_until_gone(processes)
    wait_until(lambda: not folder.exists())
