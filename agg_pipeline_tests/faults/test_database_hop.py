"""The hop from PostgREST to PostgreSQL, and PostgREST's own limits: a second PostgREST, whose database is a proxy."""

import itertools
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline.embedded import postgrest as api
from agg_pipeline.embedded.files import Layout, State
from agg_pipeline.embedded.postgres_binary import find_postgres
from agg_pipeline.embedded.postgrest_binary import find_postgrest
from agg_pipeline.embedded.privilege import choose_identity
from agg_pipeline_tests.embedded.processes import wait_until
from agg_pipeline_tests.faults.proxy import Fault, Proxy
from agg_pipeline_tests.faults.world import World
from agg_pipeline_tests.sql.helpers import scalar

POOL = 2
WAITING = "select count(*) from pg_stat_activity where usename = 'authenticator' and wait_event_type = 'Lock'"


@dataclass(frozen=True)
class Hop:
    """PostgREST with a small pool, and the proxy between it and the database."""

    database: Proxy
    api_port: int


@pytest.fixture(scope="module")
def hop(fault_stack: Stack) -> Iterator[Hop]:
    layout = Layout(fault_stack.root)
    stored, (binary, missing) = State.load(layout.state), find_postgrest()
    assert stored, "the stack has no state"
    assert binary, missing
    with Proxy(stored.db_port) as database:
        state = replace(stored, db_port=database.port, api_port=0, admin_port=0)
        state.choose_ports("api_port", "admin_port")
        identity = choose_identity(find_postgres(None), layout.root, layout.data)
        order = api.server_order(layout, identity, binary, state)
        limits = {"PGRST_DB_POOL": str(POOL), "PGRST_DB_POOL_ACQUISITION_TIMEOUT": "1"}
        with Path(order.log).open("ab") as log:
            process = subprocess.Popen(
                order.argv,
                env=order.env | limits,
                stdout=log,
                stderr=log,
                user=order.uid,
                group=order.gid,
                cwd=order.cwd,
            )
        try:
            wait_until(lambda: api.is_ready(state))
            yield Hop(database, state.api_port)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def far_world(world: World, hop: Hop) -> Iterator[World]:
    """The world, reached through the second PostgREST."""
    near = world.proxy.target
    world.proxy.target = hop.api_port
    world.proxy.reset_live()
    yield world
    world.proxy.target = near
    world.proxy.reset_live()


@pytest.mark.nightly
def test_refused(far_world: World, hop: Hop) -> None:
    """PostgREST loses its connections and gets no new ones."""
    with hop.database.broken(Fault("refuse")) as fault:
        run = far_world.tick()
    assert fault.hits > 0, "PostgREST did not use the proxy"
    assert "PGRST00" in run.said
    far_world.recovers("database hop: refused", "PostgREST's connections reset and refused during a run")


@pytest.mark.nightly
def test_black_hole(far_world: World, hop: Hop) -> None:
    """What PostgREST has sent arrives when the pipeline is long gone."""
    far_world.timeout_s = 0.3
    with hop.database.broken(Fault("hold")) as fault:
        run = far_world.tick()
    assert fault.hits > 0
    assert "ReadTimeout" in run.said or "PGRST003" in run.said
    far_world.timeout_s = 10.0
    far_world.recovers("database hop: black hole", "no packet passes during a run; all arrive later", straggling=True)


def test_reset_in_mid_run(far_world: World, hop: Hop) -> None:
    """RST on PostgREST's connections while the database works on a call of it."""
    far_world.tick_until("catchup_aggregation_batch", lambda: hop.database.reset_live())
    far_world.recovers("database hop: reset", "RST just before a `catchup_aggregation_batch`")


@pytest.mark.nightly
def test_starved_pool(far_world: World, hop: Hop) -> None:
    """Calls of somebody else hold every connection of the pool."""
    over = threading.Event()
    with ThreadPoolExecutor(POOL) as hogs:
        try:
            with far_world.connect() as db, db.transaction():
                db.execute("lock table core_asset_registry_all, data_agg_state in access exclusive mode")
                held = [hogs.submit(hog, hop, far_world.stack.service_role_key, over) for _ in range(POOL)]
                wait_until(lambda: scalar(db, WAITING) == POOL)
                run = far_world.tick()
        finally:
            over.set()
        assert all(call.result() for call in held)
    assert "PGRST003" in run.said
    far_world.recovers("PostgREST's pool starved", "other calls hold its connections during a run")


def hog(hop: Hop, key: str, over: threading.Event) -> int:
    """Wait for a locked table, and again when the statement timeout ends it; how often."""
    for n in itertools.count(1):
        httpx.get(
            f"http://127.0.0.1:{hop.api_port}/data_agg_state",
            headers={"Authorization": f"Bearer {key}"},
            trust_env=False,
            timeout=30,
        )
        if over.is_set():
            return n
    raise AssertionError("never reached")
