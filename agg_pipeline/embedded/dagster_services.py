"""Dagster's processes: code server, webserver and daemon, under the supervisor of a folder."""

import contextlib
import os
import shutil
import signal
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import prepare_log
from agg_pipeline.embedded.ports import accepts_connections, answers_ok, free_port
from agg_pipeline.embedded.stack import supervised
from agg_pipeline.embedded.supervisor.client import SupervisorClient
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder

EVENT_BATCH_SIZE = "1000"
"""Events that Dagster stores with one insert: else each day of a backfill costs a connection per asset."""

START_TIMEOUT_S = 120.0
STOP_GRACE_S = 20.0
STEADY_S = 60.0
MAX_SHORT_LIVES = 3
DEFINITIONS = "agg_pipeline.definitions"


@dataclass(frozen=True)
class DagsterServices:
    """Dagster's running processes: where the UI is, and the supervisor that restarts them."""

    url: str
    supervisor: SupervisorClient
    orders: dict[str, ServiceOrder]  # by name: code-server, webserver, daemon

    def pid(self, name: str) -> int:
        """Pid of one of them; 0 while it does not run."""
        return self.supervisor.status().services[name].pid


def start_dagster(
    supervisor: SupervisorClient,
    environment: dict[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    module: str = DEFINITIONS,
) -> DagsterServices:
    """Start code server, webserver and daemon and wait until the UI answers.

    Args:
        environment: variables that they get besides those of this process. Secrets go this way and no other.
        port: of the UI; 0 takes a free one.
        module: Python module of the definitions.

    Raises:
        EmbeddedError: one of them does not start; with the last lines of its log.
    """
    home = dagster_home(supervisor.layout.root)
    code_port, ui_port = free_port(), port or free_port()
    workspace = home / "workspace.yaml"
    workspace.write_text(
        yaml.safe_dump(
            {"load_from": [{"grpc_server": {"host": "127.0.0.1", "port": code_port, "location_name": "agg_pipeline"}}]}
        )
    )
    commands = {
        "code-server": [
            "dagster", "code-server", "start", "-m", module, "-h", "127.0.0.1", "-p", str(code_port),
        ],
        "webserver": ["dagster-webserver", "-h", host, "-p", str(ui_port), "-w", str(workspace)],
        "daemon": ["dagster-daemon", "run", "-w", str(workspace)],
    }  # fmt: skip
    env = {"DAGSTER_EVENT_BATCH_SIZE": EVENT_BATCH_SIZE} | os.environ | environment | {"DAGSTER_HOME": str(home)}
    orders = {
        name: ServiceOrder(
            name=name,
            argv=[_script(program), *arguments],
            env=env,
            log=str(prepare_log(supervisor.layout.log(name))),
            cwd=os.getcwd(),  # modules and relative paths in settings are found from here
            has_children=True,  # the code server's gRPC server and run workers
            stop_signal=int(signal.SIGINT),
            grace_s=STOP_GRACE_S,
            steady_s=STEADY_S,
            max_short_lives=MAX_SHORT_LIVES,
        )
        for name, (program, *arguments) in commands.items()
    }
    supervisor.run(orders["code-server"])
    _wait(supervisor, "code-server", lambda: accepts_connections(code_port))
    supervisor.run(orders["webserver"])
    supervisor.run(orders["daemon"])
    _wait(supervisor, "webserver", lambda: answers_ok(ui_port, "/server_info", host))
    return DagsterServices(f"http://{host}:{ui_port}", supervisor, orders)


@contextlib.contextmanager
def dagster_services(
    root: Path, environment: dict[str, str], *, module: str = DEFINITIONS
) -> Iterator[DagsterServices]:
    """Dagster without a database of its own, in a folder of its own: ``environment`` names the database."""
    with supervised(root, database=False) as (supervisor, _):
        yield start_dagster(supervisor, environment, module=module)


def dagster_home(root: Path) -> Path:
    """The instance's folder below ``root``, with the current dagster.yaml of the project in it."""
    home = (root / "dagster_home").absolute()
    home.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).parents[1]
    # A wheel has it inside the package, a checkout beside it.
    config = next((p for p in (package / "dagster.yaml", package.parent / "dagster.yaml") if p.exists()), None)
    if config is None:
        raise EmbeddedError("dagster.yaml is missing.", remedy="Install the package again, or work in a full checkout.")
    shutil.copyfile(config, home / "dagster.yaml")
    return home


def _script(name: str) -> str:
    """A program of the environment that this process runs in; PATH may name another one."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise EmbeddedError(f"{path} is missing.", remedy="Install the package with its dependencies again.")
    return str(path)


def _wait(supervisor: SupervisorClient, name: str, is_ready: Callable[[], bool]) -> None:
    # One end is enough: an import that fails, or a port that is taken, would only fail again, seconds later.
    supervisor.wait_until_ready(name, is_ready, timeout_s=START_TIMEOUT_S, max_deaths=1)
