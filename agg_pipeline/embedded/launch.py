"""Start the database of a stack under its supervisor: PostgreSQL, its roles, then PostgREST."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agg_pipeline.embedded import postgres, postgrest
from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import State, prepare_log
from agg_pipeline.embedded.postgres_binary import find_postgres
from agg_pipeline.embedded.postgrest_binary import find_postgrest
from agg_pipeline.embedded.privilege import choose_identity
from agg_pipeline.embedded.supervisor.client import SupervisorClient
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder

START_TIMEOUT_S = 60.0  # a crash recovery takes long; a server that fails is noticed by its ends, not by this
MAX_DEATHS = 3  # while starting
PORT_ATTEMPTS = 3


def launch_database(supervisor: SupervisorClient, *, durable: bool) -> State:
    """Start PostgreSQL and PostgREST and wait until both answer; the state with their ports and secrets.

    The caller holds the folder's start lock.

    Args:
        durable: False turns fsync off.

    Raises:
        EmbeddedError: a program is missing, or a server does not start; with the last lines of its log.
    """
    layout = supervisor.layout
    postgres.stop_orphan(layout.data)
    version = postgres.version_of(layout.data)
    program = find_postgres(version)
    identity = choose_identity(program, layout.root, layout.data)
    stored = State.load(layout.state)
    state = stored or State()
    state.choose_ports("db_port", "api_port", "admin_port")
    state.save(layout.state)
    if version is None:
        postgres.initialize(layout, identity, state, durable=durable)
    else:
        identity.give(layout.data)
        if stored is None:
            postgres.reset_password(layout, identity, state)

    database = _Server(
        name="postgres",
        ports=("db_port",),
        order=lambda: postgres.server_order(layout, identity, program, state, durable=durable),
        is_ready=lambda: postgres.answers(state),
    )
    database.start(supervisor, state)
    postgres.prepare_databases(state)

    # Only now: a PostgREST started before its database waits, and tries again only after seconds.
    api_program, state.api_missing = find_postgrest()
    state.save(layout.state)
    if api_program is not None:
        binary = api_program
        api = _Server(
            name="postgrest",
            ports=("api_port", "admin_port"),
            order=lambda: postgrest.server_order(layout, identity, binary, state),
            is_ready=lambda: postgrest.is_ready(state),
        )
        api.start(supervisor, state)
    return state


@dataclass(frozen=True)
class _Server:
    """A server to start.

    Attributes:
        ports: names of its ports in the state.
        order: makes the order for the supervisor, from the ports that the state has at that moment.
        is_ready: whether it answers.
    """

    name: str
    ports: tuple[str, ...]
    order: Callable[[], ServiceOrder]
    is_ready: Callable[[], bool]

    def start(self, supervisor: SupervisorClient, state: State) -> None:
        """Start it and wait until it answers; with other ports if another process has taken one meanwhile."""
        log = prepare_log(supervisor.layout.log(self.name))
        for attempt in range(1, PORT_ATTEMPTS + 1):
            size = log.stat().st_size
            try:
                self._start_once(supervisor, log, size)
                return
            except EmbeddedError:
                if attempt == PORT_ATTEMPTS or not postgres.port_was_taken(_text_after(log, size)):
                    raise
                state.choose_ports(*self.ports)
                state.save(supervisor.layout.state)

    def _start_once(self, supervisor: SupervisorClient, log: Path, size: int) -> None:
        supervisor.run(self.order())
        supervisor.wait_until_ready(
            self.name,
            self.is_ready,
            timeout_s=START_TIMEOUT_S,
            max_deaths=MAX_DEATHS,
            may_recover=lambda: postgres.sessions_survive(_text_after(log, size)),
        )


def _text_after(log: Path, size: int) -> str:
    """What has been logged since the log had this size in bytes."""
    return log.read_bytes()[size:].decode(errors="replace")
