"""Bring a stopped stack up: programs, identity, ports, data, then PostgreSQL, its roles, and PostgREST."""

import time
from collections.abc import Callable
from pathlib import Path

from agg_pipeline.embedded import owner
from agg_pipeline.embedded import postgres as cluster
from agg_pipeline.embedded import postgrest as api
from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.embedded.files import POLL_S, Layout, State, Status
from agg_pipeline.embedded.postgres_binary import find_postgres
from agg_pipeline.embedded.postgrest_binary import find_postgrest
from agg_pipeline.embedded.privilege import Identity, choose_identity

START_TIMEOUT_S = 60.0  # a crash recovery may take long; a failure is noticed at once, not by this
LOG_LIMIT = 5_000_000  # bytes; a longer log is set aside at the next start
HOPELESS = 3  # deaths in a row while starting


def launch(layout: Layout, *, durable: bool, remove: bool) -> State:
    """Start the servers one after the other and become their owner. The caller holds the folder's turn."""
    owner.disown(layout.root)  # ours, but stopped by someone else
    cluster.stop_orphan(layout.data)
    for server in ("postgres", "postgrest", "supervisor"):
        _open_log(layout.log(server))
    version = cluster.version_of(layout.data)
    postgres = find_postgres(version)
    identity = choose_identity(postgres, layout.root, layout.data)
    stored = State.load(layout.state)
    state = stored or State()
    state.choose_ports("db_port", "api_port", "admin_port")
    state.save(layout.state)
    if version is None:
        cluster.initialize(layout, identity, state, durable=durable)
    else:
        identity.give(layout.data)
        if stored is None:
            cluster.reset_password(layout, identity, state)

    layout.status.unlink(missing_ok=True)  # a killed supervisor's: its pid may be anybody's by now
    supervisor = owner.Supervisor(layout, remove=remove)
    try:
        _run(
            layout,
            supervisor,
            "postgres",
            state,
            ("db_port",),
            cluster.answers,
            lambda: cluster.server_order(layout, identity, postgres, state, durable=durable),
        )
        cluster.prepare_databases(state)
        _run_api(layout, supervisor, identity, state)
        supervisor.order(ready=True)
        _wait(lambda: Status.load(layout.status).ready, layout, supervisor, "supervisor")
    except BaseException:
        supervisor.let_go()
        raise
    owner.own(layout.root, supervisor)
    return state


def _run_api(layout: Layout, supervisor: owner.Supervisor, identity: Identity, state: State) -> None:
    """Only now that PostgreSQL is up: PostgREST would hang without it, and come back only after seconds."""
    postgrest, state.api_missing = find_postgrest()
    state.save(layout.state)
    if postgrest is not None:
        binary = postgrest
        _run(
            layout,
            supervisor,
            "postgrest",
            state,
            ("api_port", "admin_port"),
            api.is_ready,
            lambda: api.server_order(layout, identity, binary, state),
        )


def _run(
    layout: Layout,
    supervisor: owner.Supervisor,
    server: str,
    state: State,
    ports: tuple[str, ...],
    answers: Callable[[State], bool],
    order: Callable[[], dict[str, object]],
) -> None:
    """Start a server and wait until it answers; with other ports if somebody took one since we looked."""
    for attempts_left in (2, 1, 0):
        began = layout.log(server).stat().st_size
        supervisor.order(run=order())
        try:
            _wait(lambda: answers(state), layout, supervisor, server, began)
            break
        except EmbeddedError:
            if not attempts_left or not cluster.port_was_taken(_logged(layout, server, began)):
                raise
            state.choose_ports(*ports)
            state.save(layout.state)


def _wait(done: Callable[[], bool], layout: Layout, supervisor: owner.Supervisor, server: str, began: int = 0) -> None:
    """Wait until a server answers; give up early when it keeps dying, unless what it dies of will pass."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not done():
        hopeless = Status.load(layout.status).deaths(server) >= HOPELESS
        hopeless = hopeless and not cluster.sessions_survive(_logged(layout, server, began))
        if supervisor.has_ended() or hopeless or time.monotonic() > deadline:
            ended = "supervisor" if supervisor.has_ended() else server
            raise EmbeddedError(
                f"{ended} of {layout.root} did not start.", remedy="The log says why.", log=layout.log(ended)
            )
        time.sleep(POLL_S)


def _logged(layout: Layout, server: str, began: int) -> str:
    return layout.log(server).read_bytes()[began:].decode(errors="replace")


def _open_log(log: Path) -> None:
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    log.touch(mode=0o600)
