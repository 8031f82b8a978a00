"""The process supervisor with small programs as its services: restarts, giving up, the stop, secrets, orphans."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agg_pipeline import embedded
from agg_pipeline.embedded.supervisor.client import SupervisorClient
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder
from agg_pipeline_tests.embedded.processes import REPOSITORY, children, is_alive, wait_until, wait_until_gone

PARENT = "sleep 300 & wait"  # a shell and its child, in one process group
OWNER = """
import pathlib, sys
from agg_pipeline.embedded import supervised
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder
with supervised(pathlib.Path(sys.argv[1]), database=False) as (supervisor, _):
    log = str(supervisor.layout.log("parent"))
    supervisor.run(ServiceOrder("parent", ["sh", "-c", sys.argv[2]], {}, log, grace_s=5.0, has_children=True))
    has_started = lambda: supervisor.status().services["parent"].pid > 0
    supervisor.wait_until_ready("parent", has_started, timeout_s=30, max_deaths=1)
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[SupervisorClient]:
    with embedded.supervised(tmp_path / "services", database=False) as (opened, stack):
        assert stack is None
        yield opened


def order(supervisor: SupervisorClient, name: str, script: str, **fields: object) -> ServiceOrder:
    """A shell script as a service."""
    fields = {"env": dict(os.environ), "grace_s": 10.0} | fields
    return ServiceOrder(name, ["sh", "-c", script], log=str(supervisor.layout.log(name)), **fields)  # type: ignore[arg-type]


def pid(supervisor: SupervisorClient, name: str) -> int:
    """Pid of a service that is about to run."""
    wait_until(lambda: supervisor.status().services[name].pid > 0)
    return supervisor.status().services[name].pid


def child(parent: int) -> int:
    """The one child of a process that is about to start it."""
    wait_until(lambda: len(children(parent)) == 1)
    return children(parent)[0]


def test_a_service_that_ends_is_started_again_and_reported_once(supervisor: SupervisorClient) -> None:
    supervisor.run(order(supervisor, "sleeper", "exec sleep 300"))
    first = pid(supervisor, "sleeper")
    assert supervisor.restarted() == []
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: supervisor.restarted() == ["sleeper"])
    assert supervisor.restarted() == []
    assert pid(supervisor, "sleeper") != first
    assert f"sleeper pid {first} ended with -9" in supervisor.layout.log("supervisor").read_text()


def test_three_short_lives_in_a_row_are_an_error_with_the_log(supervisor: SupervisorClient) -> None:
    supervisor.run(order(supervisor, "broken", "echo cannot work; exit 3", max_short_lives=3))
    wait_until(lambda: supervisor.status().services["broken"].given_up)
    with pytest.raises(embedded.EmbeddedError, match=r"broken of .* was given up") as failed:
        supervisor.restarted()
    assert f"See {supervisor.layout.log('broken')}." in str(failed.value)
    assert "cannot work" in str(failed.value)
    assert supervisor.layout.log("broken").read_text() == "cannot work\n" * 3


def test_steady_lives_are_never_given_up(supervisor: SupervisorClient) -> None:
    """A life of ``steady_s`` ends the row of short ones."""
    script = "test -e $0.second && { rm $0.second; sleep 0.6; exit; }; touch $0.second"
    steady = order(supervisor, "flaky", script, steady_s=0.5, max_short_lives=2, cwd=str(supervisor.layout.root))
    supervisor.run(steady)
    wait_until(lambda: supervisor.status().services["flaky"].deaths >= 5)
    assert not supervisor.status().services["flaky"].given_up


def test_a_program_that_is_missing_is_an_error_with_its_name(supervisor: SupervisorClient) -> None:
    missing = ServiceOrder("missing", ["/none/program"], {}, str(supervisor.layout.log("missing")), grace_s=1.0)
    supervisor.run(missing)
    with pytest.raises(embedded.EmbeddedError, match="/none/program could not be run"):
        supervisor.wait_until_ready("missing", lambda: False, timeout_s=30, max_deaths=1)


def test_services_stop_in_reverse_order(tmp_path: Path) -> None:
    """PostgreSQL is the first to start, and must be the last to stop."""
    stopped = tmp_path / "stopped"
    with embedded.supervised(tmp_path / "services", database=False) as (supervisor, _):
        for name in ("database", "api", "daemon"):
            ready = tmp_path / name
            script = f"trap 'sleep 0.2; echo {name} >> {stopped}; exit' TERM; touch {ready}; sleep 300 & wait"
            supervisor.run(order(supervisor, name, script, has_children=True))
            supervisor.wait_until_ready(name, ready.exists, timeout_s=30, max_deaths=1)
    assert stopped.read_text().split() == ["daemon", "api", "database"]


def test_the_stop_signal_reaches_the_children(tmp_path: Path) -> None:
    """A run worker that is signalled can end its run; one that is only killed leaves it open."""
    ready, stopped = tmp_path / "ready", tmp_path / "stopped"
    child_script = f"trap 'touch {stopped}; exit' TERM; touch {ready}; sleep 300 & wait"
    with embedded.supervised(tmp_path / "services", database=False) as (supervisor, _):
        script = f'trap : TERM; sh -c "{child_script}" & wait; wait'
        supervisor.run(order(supervisor, "parent", script, has_children=True))
        supervisor.wait_until_ready("parent", ready.exists, timeout_s=30, max_deaths=1)
    assert stopped.exists()


def test_a_service_that_ignores_the_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    with embedded.supervised(tmp_path / "services", database=False) as (supervisor, _):
        supervisor.run(order(supervisor, "deaf", f"trap '' TERM; {PARENT}", grace_s=0.5, has_children=True))
        service = pid(supervisor, "deaf")
        processes = {"service": service, "child": child(service)}
        began = time.monotonic()
    assert time.monotonic() - began >= 0.5
    assert not any(is_alive(one) for one in processes.values())
    assert "did not end in 0.5 s: killed" in supervisor.layout.log("supervisor").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
def test_what_a_killed_service_left_behind_ends_with_the_supervisor(tmp_path: Path) -> None:
    """A run worker may go on after the death of its code server, but not after `up`."""
    with embedded.supervised(tmp_path / "services", database=False) as (supervisor, _):
        supervisor.run(order(supervisor, "parent", PARENT, has_children=True))
        service = pid(supervisor, "parent")
        orphan = child(service)
        os.kill(service, signal.SIGKILL)
        wait_until(lambda: supervisor.restarted() == ["parent"])
        assert is_alive(orphan)
        again = pid(supervisor, "parent")
        processes = {"orphan": orphan, "service": again, "child": child(again)}
    assert not any(is_alive(one) for one in processes.values())


def test_kill_9_of_the_owner_stops_services_and_their_children(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "services"), PARENT],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    (supervisor,) = children(owner.pid)
    (service,) = children(supervisor)
    processes = {"supervisor": supervisor, "service": service, "child": child(service)}
    owner.kill()
    owner.communicate()
    wait_until_gone(processes)


def test_secrets_reach_a_service_by_its_environment_only(supervisor: SupervisorClient) -> None:
    """Every user can list command lines; the status and the logs may be sent to somebody who helps."""
    secret = "planted-secret"
    asked = order(supervisor, "secretive", "echo got ${#KEY}; exec sleep 300", env=os.environ | {"KEY": secret})
    supervisor.run(asked)
    wait_until(lambda: supervisor.layout.log("secretive").read_text() == f"got {len(secret)}\n")
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    files = [path.read_text() for path in supervisor.layout.root.rglob("*") if path.is_file()]
    assert "embedded/supervisor" in listed
    assert any('"secretive"' in text for text in files), "the status was not among them"
    assert secret not in "\n".join([listed, repr(asked), *files])


def test_a_killed_supervisor_is_an_error(supervisor: SupervisorClient) -> None:
    supervisor.run(order(supervisor, "sleeper", "exec sleep 300"))
    processes = {"supervisor": supervisor.status().pid, "sleeper": pid(supervisor, "sleeper")}
    os.kill(processes["supervisor"], signal.SIGKILL)
    if sys.platform == "linux":
        wait_until_gone(processes)
    wait_until(supervisor.has_ended)
    with pytest.raises(embedded.EmbeddedError, match=r"supervisor of .* ended"):
        supervisor.restarted()


def test_a_folder_has_one_supervisor(supervisor: SupervisorClient) -> None:
    """A second one would start every service twice."""
    running = f"Process {supervisor.status().pid} runs services without a database"
    for second in (embedded.supervised(supervisor.layout.root), embedded.started(supervisor.layout.root)):
        with pytest.raises(embedded.EmbeddedError, match=running), second:
            raise AssertionError("never reached")
    assert embedded.running(supervisor.layout.root) is None
    assert embedded.stop(supervisor.layout.root)
    assert supervisor.has_ended()
