"""Failures of a database call, classified by whether a retry can succeed.

Classified by exception class, SQLSTATE or PostgREST code, and HTTP status, never by the text of a message: texts are
translated, and a text that contains "timeout" need not be about one.
"""

import re

# What to do next, by code. A hint from the database takes precedence.
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
    "57014": "The call took longer than the database allows; lower MAX_WINDOWS_PER_RUN.",
    "shape": "Database and package disagree; run `agg-pipeline migrate` of this version.",
}
# Retried as the predecessor did, but reported at once as well: no retry helps against a wrong key.
CONFIGURATION_CODES = frozenset({"PGRST300", "PGRST301", "PGRST302", "PGRST303", "401", "42501"})

_MAX_LENGTH = 1000  # characters of a message
_TRANSIENT_CODE = re.compile(r"PGRST00[0-3]|PGRST30[1-3]|40001|40P01|55P03|57014|57P0[1-3]|08...|53...")
_STATUS_CODE = re.compile(r"PT(\d{3})")  # PostgREST: the function sets the HTTP status
_DATABASE_CODE = re.compile(r"[0-9A-Z]{5}|PGRST\d{3}")
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 530})


class GatewayError(Exception):
    """A database call failed. Its text is one line: what failed, with what code, and what to do.

    Attributes:
        code: SQLSTATE or PGRST code; without one the HTTP status, else the name of the exception class.
        message: message of the database, the API or the driver.
        hint: what to do next.
        retry_after_s: Retry-After of the server in seconds; None if it sent none.
    """

    remedy = "See the log of the database."  # used if neither the database nor REMEDIES has a hint

    def __init__(
        self, function: str, code: str, message: str, hint: str | None = None, retry_after_s: float | None = None
    ):
        self.function, self.code, self.retry_after_s = function, code, retry_after_s
        self.message, self.hint = _one_line(message).rstrip("."), _one_line(hint or REMEDIES.get(code) or self.remedy)
        super().__init__(f"{function} failed: {code} {self.message}. {self.hint}")

    @property
    def is_configuration(self) -> bool:
        """True if a setting has to be changed before any retry can succeed."""
        return self.code in CONFIGURATION_CODES


class TransientError(GatewayError):
    """A retry may succeed. Whether a write took effect is unknown; every write can be repeated safely."""

    remedy = "The call is retried; if it keeps failing, check the load and the log of the database."


class PermanentError(GatewayError):
    """A retry fails as well."""

    remedy = "A retry fails as well: correct what the message names first."


class LeaseLost(PermanentError):
    """AG001: the lease has ended and another run may hold the task. The caller must discard what it computed."""


def _one_line(text: str) -> str:
    """The text on one line, cut to _MAX_LENGTH: databases and proxies return pages."""
    words = " ".join(text.split())
    return words if len(words) <= _MAX_LENGTH else f"{words[:_MAX_LENGTH]} ..."


def is_transient(code: str | None, status: int | None = None) -> bool:
    """Whether a retry may succeed after a failure with this code (SQLSTATE or PGRST) and HTTP status."""
    if code == "":
        # PostgREST sends status 400 and no SQLSTATE when its own connection to the database broke.
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
    """The error for a failed call that the database, the API or a proxy answered.

    Args:
        code: SQLSTATE or PGRST code; for a body without one, what the client put in its place.
        status: HTTP status, if the call went over HTTP.
        retry_after_s: Retry-After in seconds, if the server sent one.
    """
    if code == "AG001":
        return LeaseLost(function, code, message, hint)
    named = code if code and _DATABASE_CODE.fullmatch(code) else str(status or code or "unknown")
    if is_transient(code, status):
        return TransientError(function, named, message, hint, retry_after_s)
    return PermanentError(function, named, message, hint)
