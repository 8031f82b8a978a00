"""Bounded, jittered retries of one call, after transient errors only.

Every database function that the pipeline calls can be repeated: it is idempotent, or fenced by the token of a lease.
"""

import logging
import random
from collections.abc import Collection
from typing import TypeVar

import tenacity
from pydantic import TypeAdapter, ValidationError

from agg_pipeline.database.transport import Transport
from agg_pipeline.errors import GatewayError, PermanentError, TransientError

log = logging.getLogger(__name__)
T = TypeVar("T")

# The last attempt starts at most RETRY_AFTER_MAX_S + JITTER_S after RETRIES_END_S, whatever Retry-After says.
ATTEMPTS = 4
RETRIES_END_S = 20.0
RETRY_AFTER_MAX_S = 10.0
FIRST_WAIT_S = 0.2
JITTER_S = 1.0  # so that workers that failed together do not retry together

# Permanent only if repeated: the first may come from a proxy, a deployment, or an API that reloads its schema.
_RETRIED_ONCE = frozenset({"shape", "PGRST202"})


def call(
    transport: Transport,
    function: str,
    returns: type[T],
    params: dict[str, object],
    left_to_caller: Collection[str] = (),
    attempts: int | None = None,
) -> T:
    """Call a function, retry after transient errors, and validate the JSON that it returns.

    Args:
        left_to_caller: codes that are raised without a retry, since the caller handles them.
        attempts: at most so many. Default: ATTEMPTS.
    """
    was_retried = False

    def may_heal(exc: BaseException) -> bool:
        return isinstance(exc, TransientError) and not exc.is_configuration and exc.code not in left_to_caller

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(may_heal),
        stop=tenacity.stop_after_attempt(attempts or ATTEMPTS) | tenacity.stop_after_delay(RETRIES_END_S),
        wait=_wait_s,
        before_sleep=_log_retry,
        reraise=True,
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
    raise AssertionError("tenacity returns a result or raises")


def _call_once(transport: Transport, function: str, returns: type[T], params: dict[str, object]) -> T:
    data = transport.call(function, params)
    try:
        return TypeAdapter(returns).validate_python(data)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors()[:3])
        raise TransientError(function, "shape", f"the response does not have the expected fields ({wrong})") from None


def _wait_s(state: tenacity.RetryCallState) -> float:
    """Seconds that the server asked for, up to a limit; else 0.2 s, doubled after each attempt. Jitter on top."""
    exc = state.outcome and state.outcome.exception()
    asked = exc.retry_after_s if isinstance(exc, GatewayError) else None  # PostgREST sends 0 at first
    wait = min(asked, RETRY_AFTER_MAX_S) if asked else FIRST_WAIT_S * 2 ** (state.attempt_number - 1)
    return wait + random.uniform(0, JITTER_S)  # noqa: S311 - no secret


def _log_retry(state: tenacity.RetryCallState) -> None:
    log.info("%s Retrying in %.1f s.", state.outcome and state.outcome.exception(), state.upcoming_sleep)
