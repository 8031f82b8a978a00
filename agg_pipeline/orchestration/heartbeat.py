"""Signs of life of a run, given by a thread of its process: a long computation is no death."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.errors import GatewayError

BEAT_S = 3.0

log = logging.getLogger(__name__)


@contextlib.contextmanager
def beating(connect: Callable[[], AbstractContextManager[AggGateway]], run_id: str, environment: str) -> Iterator[None]:
    """Give a sign of life at once and every BEAT_S seconds in the block; at its end, say that no more will follow.

    Args:
        connect: opens a gateway of the thread's own, with a timeout shorter than a sign of life may be late.
    """
    ended = threading.Event()

    def beat() -> None:
        with connect() as gateway:
            while not ended.is_set():
                _try(gateway, run_id, environment, ended=False)
                ended.wait(BEAT_S)
            _try(gateway, run_id, environment, ended=True)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _try(gateway: AggGateway, run_id: str, environment: str, *, ended: bool) -> None:
    """One call; a failure is left to the next one. The work of the run meets the same failure, and reports it."""
    try:
        gateway.beat(run_id, environment=environment, ended=ended)
    except GatewayError as exc:
        log.debug("No sign of life of run %s was stored: %s", run_id, exc)
