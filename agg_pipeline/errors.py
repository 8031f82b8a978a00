"""Failures of a database call, sorted by what a caller can do about them.

Sorted by exception class, SQLSTATE or PostgREST code, and HTTP status, never by words in a message: a message that
happens to contain "timeout" is no timeout, and one in another language still is.
"""

import re

# What to do next, by code. A hint that the database sends along wins.
REMEDIES = {
    "22023": "If a role is named: the key is not a service_role key of this project; set SUPABASE_SERVICE_ROLE_KEY.",
    "42501": "The key is not a service_role key; set SUPABASE_SERVICE_ROLE_KEY.",
    "42883": "The database is not migrated for this version; run `agg-pipeline migrate`.",
    "PGRST202": "The database is not migrated for this version; run `agg-pipeline migrate`.",
    "42P01": "The database is not migrated for this version; run `agg-pipeline migrate`.",
    "PGRST106": "The REST API does not serve schema public; add it to the exposed schemas.",
    "PGRST205": "The database is not migrated for this version; run `agg-pipeline migrate`.",
    "PGRST300": "The REST API has no JWT secret; set it in the API's configuration.",
    "PGRST203": "A function exists twice; run `agg-pipeline migrate`, which leaves one of each.",
    "PGRST301": "The key is wrong or expired; set SUPABASE_SERVICE_ROLE_KEY.",
    "PGRST302": "The key is wrong or expired; set SUPABASE_SERVICE_ROLE_KEY.",
    "PGRST303": "The key is wrong or expired; set SUPABASE_SERVICE_ROLE_KEY.",
    "401": "The key is wrong or expired; set SUPABASE_SERVICE_ROLE_KEY.",
    "301": "The REST API is at another address; set SUPABASE_URL to it.",
    "302": "The REST API is at another address; set SUPABASE_URL to it.",
    "307": "The REST API is at another address; set SUPABASE_URL to it.",
    "308": "The REST API is at another address; set SUPABASE_URL to it.",
    "404": "There is no REST API at this address; check SUPABASE_URL.",
    "57014": "The call took longer than the database allows; lower MAX_WINDOWS_PER_TASK.",
    "shape": "Database and package disagree; run `agg-pipeline migrate` of this version.",
}
# A wrong key is tried again as the predecessor did, but it never heals: say so at once.
CONFIGURATION_CODES = frozenset({"PGRST300", "PGRST301", "PGRST302", "PGRST303", "401", "42501"})

_LONGEST = 1000
_TRANSIENT_CODE = re.compile(r"PGRST00[0-3]|PGRST30[1-3]|40001|40P01|55P03|57014|57P0[1-3]|08...|53...")
_STATUS_CODE = re.compile(r"PT(\d{3})")  # how a function chooses the HTTP status, for PostgREST
_DATABASE_CODE = re.compile(r"[0-9A-Z]{5}|PGRST\d{3}")
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 530})


class GatewayError(Exception):
    """A database call failed. Its text is one line: what failed, with what code, and what to do.

    Attributes:
        code: SQLSTATE, PGRST code, HTTP status or exception class, whichever says most.
        message: what the database or the line to it said.
        hint: what to do.
        retry_after_s: seconds that the server asked to wait for, if it did.
    """

    remedy = "See what the database says."  # where neither the database nor REMEDIES knows better

    def __init__(
        self, function: str, code: str, message: str, hint: str | None = None, retry_after_s: float | None = None
    ):
        self.function, self.code, self.retry_after_s = function, code, retry_after_s
        self.message, self.hint = _one_line(message).rstrip("."), _one_line(hint or REMEDIES.get(code) or self.remedy)
        super().__init__(f"{function} failed: {code} {self.message}. {self.hint}")

    @property
    def is_configuration(self) -> bool:
        """True if no retry heals it: somebody has to change a setting."""
        return self.code in CONFIGURATION_CODES


class TransientError(GatewayError):
    """May go away by itself. For a write the outcome is unknown; every write is safe to repeat."""

    remedy = "It is tried again; if it stays, look at the database's load and its log."


class PermanentError(GatewayError):
    """The same call fails again."""

    remedy = "The same call fails again: mend what the message names first."


class LeaseLost(PermanentError):
    """AG001: the lease ended and another run may have the task. Whatever this run computed is to be discarded."""


def _one_line(text: str) -> str:
    """A log line stays one, and of a size to be read, whatever a database function or a proxy had to say."""
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."


def is_transient(code: str | None, status: int | None = None) -> bool:
    """Whether a failure with this code (SQLSTATE or PGRST) and HTTP status may go away by itself."""
    if code == "":
        # PostgREST, with status 400, had no SQLSTATE to pass on: that is how libpq reports a connection that broke.
        return True
    if code and (chosen := _STATUS_CODE.fullmatch(code)):
        return int(chosen[1]) in _TRANSIENT_STATUS
    if code and _DATABASE_CODE.fullmatch(code):
        return bool(_TRANSIENT_CODE.fullmatch(code))
    return status in _TRANSIENT_STATUS


def error_for(
    function: str,
    code: str | None,
    message: str,
    *,
    hint: str | None = None,
    status: int | None = None,
    retry_after_s: float | None = None,
) -> GatewayError:
    """The error for a refusal by the database or by what stands before it.

    Args:
        code: SQLSTATE or PGRST code, or what the client made of a body without one.
        status: HTTP status, where there was one.
        retry_after_s: what the server asked for, in seconds.
    """
    if code == "AG001":
        return LeaseLost(function, code, message, hint)
    named = code if code and _DATABASE_CODE.fullmatch(code) else str(status or code or "unknown")
    if is_transient(code, status):
        return TransientError(function, named, message, hint, retry_after_s)
    return PermanentError(function, named, message, hint)
