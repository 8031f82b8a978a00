"""Steps done by workers of Celery: two of them, redis between, the same bars. `make test-celery`."""

import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack, supervised
from agg_pipeline.embedded.dagster_services import dagster_home
from agg_pipeline.embedded.ports import accepts_connections, free_port
from agg_pipeline.embedded.supervisor.client import SupervisorClient
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder
from agg_pipeline_tests.dagster.conftest import empty_storage
from agg_pipeline_tests.embedded.processes import wait_until
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sql.helpers import at, put

pytestmark = pytest.mark.celery
SCRIPTS = Path(sysconfig.get_path("scripts"))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[SupervisorClient]:
    with supervised(tmp_path / "services", database=False) as (opened, _):
        yield opened


def order(supervisor: SupervisorClient, name: str, argv: list[str], environment: dict[str, str]) -> ServiceOrder:
    return ServiceOrder(
        name=name, argv=argv, env=environment, log=str(supervisor.layout.log(name)), cwd=os.getcwd(),
        has_children=True, stop_signal=int(signal.SIGINT), grace_s=20.0,
    )  # fmt: skip


@pytest.fixture
def broker(supervisor: SupervisorClient, tmp_path: Path) -> str:
    pytest.importorskip("dagster_celery", reason="the extra [celery] is not installed")
    redis = shutil.which("redis-server") or pytest.skip("no redis-server on this machine (apt install redis-server)")
    port = free_port()
    command = [redis, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    supervisor.run(order(supervisor, "redis", command, dict(os.environ)))
    supervisor.wait_until_ready("redis", lambda: accepts_connections(port), timeout_s=20, max_deaths=1)
    return f"redis://127.0.0.1:{port}/0"


def test_two_workers_share_a_run(
    stack: Stack,
    clean: psycopg.Connection,
    one_gateway: AggGateway,
    tmp_path: Path,
    supervisor: SupervisorClient,
    broker: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every step is done once, by one of two workers; both take part, and the bars are right."""
    for n in range(4):
        one_gateway.register_asset(f"S{n}", start=at("00:00"), base_timeframe="1m")
        put(clean, f"S{n}", "00:00", 60)
    with empty_storage(stack, tmp_path / "empty"):
        pass
    home = dagster_home(tmp_path)
    environment = os.environ | stack.environment() | {
        "DAGSTER_HOME": str(home), "ENV_NAME": "prod", "AGG_EXECUTOR": "celery",
        "TASKS_PER_STEP": "5",
        "AGG_SHARED_DIR": str(tmp_path / "shared"),
        "AGG_CELERY_BROKER": broker, "AGG_CELERY_BACKEND": broker, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    command = [
        str(SCRIPTS / "dagster-celery"),
        "worker",
        "start",
        "-A",
        "dagster_celery.app",
        "-y",
        str(ROOT / "deploy/celery.yaml"),
        "-n",
    ]
    for name in ("one", "two"):
        supervisor.run(order(supervisor, name, [*command, name, "--", "--concurrency", "1"], environment))
    done = subprocess.run(
        [str(SCRIPTS / "dagster"), "job", "execute", "-m", "agg_pipeline.definitions", "-j", "agg_master"],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", stack.dagster_dsn)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
        steps = [event.step_key for event in events if event and event.is_step_success]
    units = (
        4  # one symbol's five tasks each: side by side, a parent could come before its child and wait for the next run
    )
    assert len(steps) == len(set(steps)) == 2 + 2 * units
    logs = [supervisor.layout.log(name) for name in ("one", "two")]
    wait_until(lambda: sum(log.read_text().count("succeeded in") for log in logs) == len(steps))
    assert all("succeeded in" in log.read_text() for log in logs), "one of the workers did nothing"
    assert assert_equals_oracle(clean)["S3", "5m"] == 12
