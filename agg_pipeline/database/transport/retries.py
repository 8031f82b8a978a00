"""Bounded, jittered retries of one call, after transient errors only.

Every database function that the pipeline calls can be repeated: it is idempotent, or fenced by the token of a lease.
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

# The last attempt starts at most RETRY_AFTER_MAX_S + JITTER_S after RETRIES_END_S, whatever Retry-After says.
ATTEMPTS = 4
RETRIES_END_S = 20.0
RETRY_AFTER_MAX_S = 10.0
JITTER_S = 1.0  # so that workers that failed together do not retry together

# Permanent only if repeated: the first may come from a proxy, a deployment, or an API that reloads its schema.
_RETRIED_ONCE = frozenset({"shape", "PGRST202"})


def call(
    transport: Transport,
    function: str,
    returns: type[T],
    params: dict[str, object],
    left_to_caller: Collection[str] = (),
) -> T:
    """Call a function, retry after transient errors, and validate the JSON that it returns.

    Args:
        left_to_caller: codes that are raised without a retry, since the caller handles them.
    """
    was_retried = False

    def when(exc: Exception) -> bool | float:
        """For stamina: False: no retry; True: after its exponential wait; a number: after so many seconds."""
        if not isinstance(exc, TransientError) or exc.is_configuration or exc.code in left_to_caller:
            return False
        if not exc.retry_after_s:  # PostgREST sends 0 at first
            return True
        return min(exc.retry_after_s, RETRY_AFTER_MAX_S) + random.uniform(0, JITTER_S)  # noqa: S311 - no secret

    for attempt in stamina.retry_context(
        on=when, attempts=ATTEMPTS, timeout=RETRIES_END_S, wait_initial=0.2, wait_max=5.0, wait_jitter=JITTER_S
    ):
        with attempt:
            try:
                return _call_once(transport, function, returns, params)
            except GatewayError as exc:
                if exc.code not in _RETRIED_ONCE:
                    raise
                kind: type[GatewayError] = PermanentError if was_retried else TransientError
                was_retried = True
                raise kind(function, exc.code, exc.message, exc.hint) from None
    raise AssertionError("stamina returns a result or raises")


def _call_once(transport: Transport, function: str, returns: type[T], params: dict[str, object]) -> T:
    data = transport.call(function, params)
    try:
        return TypeAdapter(returns).validate_python(data)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()[:3])
        raise TransientError(function, "shape", f"the response does not have the expected fields ({wrong})") from None


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    log.info("%s Retrying in %.1f s.", details.caused_by, details.wait_for)


# A line in our log; stamina's default writes structured ones to standard output.
stamina.instrumentation.set_on_retry_hooks((_log_retry,))
