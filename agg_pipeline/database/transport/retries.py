"""Bounded, jittered repeats of one call: for what may go away by itself, and for nothing else.

Every database function that the pipeline calls may be repeated: it is idempotent, or fenced by a lease's token.
"""

import logging
import random
from collections.abc import Collection
from typing import TypeVar

import stamina
from pydantic import TypeAdapter, ValidationError

from agg_pipeline.database.transport import Transport
from agg_pipeline.errors import GatewayError, PermanentError, TransientError

log = logging.getLogger(__name__)
T = TypeVar("T")

# The last try begins at most RETRY_AFTER_MAX_S + JITTER_S after RETRIES_END_S, whatever a server asks for.
ATTEMPTS = 4
RETRIES_END_S = 20.0
RETRY_AFTER_MAX_S = 10.0
JITTER_S = 1.0  # workers that failed together do not come back together

# Believed the second time. The first may be a proxy's page, a deployment under way, an API that reads the schema anew.
_DOUBTED = frozenset({"shape", "PGRST202"})


def call(
    transport: Transport,
    function: str,
    returns: type[T],
    params: dict[str, object],
    left_to_caller: Collection[str] = (),
) -> T:
    """Call a function, again while that may help, and validate what it returns.

    Args:
        left_to_caller: codes that are raised at once, since the caller knows better than to ask for the same again.
    """
    doubted = False

    def when(exc: Exception) -> bool | float:
        """For stamina: never, after its own growing wait (True), or after so many seconds."""
        if not isinstance(exc, TransientError) or exc.is_configuration or exc.code in left_to_caller:
            return False
        if not exc.retry_after_s:  # PostgREST begins with 0
            return True
        return min(exc.retry_after_s, RETRY_AFTER_MAX_S) + random.uniform(0, JITTER_S)  # noqa: S311 - no secret

    for attempt in stamina.retry_context(
        on=when, attempts=ATTEMPTS, timeout=RETRIES_END_S, wait_initial=0.2, wait_max=5.0, wait_jitter=JITTER_S
    ):
        with attempt:
            try:
                return _answer(transport, function, returns, params)
            except GatewayError as exc:
                if exc.code not in _DOUBTED:
                    raise
                kind: type[GatewayError] = PermanentError if doubted else TransientError
                doubted = True
                raise kind(function, exc.code, exc.message, exc.hint) from None
    raise AssertionError("stamina ends with an answer or an exception")


def _answer(transport: Transport, function: str, returns: type[T], params: dict[str, object]) -> T:
    data = transport.call(function, params)
    try:
        return TypeAdapter(returns).validate_python(data)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()[:3])
        raise TransientError(function, "shape", f"the answer is not what this package expects ({wrong})") from None


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    log.info("%s Trying again in %.1f s.", details.caused_by, details.wait_for)


# One plain line of our own logger instead of a structured one on standard output.
stamina.instrumentation.set_on_retry_hooks((_log_retry,))
