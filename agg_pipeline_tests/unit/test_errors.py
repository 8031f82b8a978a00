"""Classification of failures as transient or permanent, by code and status."""

import pytest

from agg_pipeline.errors import LeaseLost, PermanentError, TransientError, error_for

TRANSIENT = [
    *("PGRST000", "PGRST001", "PGRST002", "PGRST003", "PGRST301", "PGRST302", "PGRST303"),
    *("40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "08000", "08006", "53100", "53300"),
]
PERMANENT = [
    *("23505", "23503", "23514", "22P02", "22003", "42501", "42P01", "42883", "P0001", "P0002"),
    *("AG002", "AG003", "AG004", "PGRST100", "PGRST202", "PGRST203", "PGRST204", "PGRST300", "57000", "40002"),
]


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_code_is_transient_whatever_the_status(code: str) -> None:
    assert type(error_for("f", code, "m", status=400)) is TransientError


@pytest.mark.parametrize("code", PERMANENT)
def test_a_permanent_code_is_permanent_whatever_the_status(code: str) -> None:
    assert type(error_for("f", code, "m", status=503)) is PermanentError


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 522, 524, 530])
@pytest.mark.parametrize("code", [None, "", "503"])
def test_without_a_code_the_status_decides_that_it_is_transient(code: str | None, status: int) -> None:
    error = error_for("f", code, "m", status=status, retry_after_s=7.0)
    assert type(error) is TransientError
    assert (error.code, error.retry_after_s) == (str(status), 7.0)


@pytest.mark.parametrize("status", [None, 301, 400, 401, 403, 404, 405, 413])
def test_without_a_code_any_other_status_or_none_is_permanent(status: int | None) -> None:
    assert type(error_for("f", None, "m", status=status)) is PermanentError


def test_a_refusal_with_an_empty_code_is_a_broken_connection() -> None:
    """PostgREST lost its connection to the database during the call, and sends status 400 nevertheless."""
    assert type(error_for("f", "", "m", status=400)) is TransientError
    assert type(error_for("f", None, "m", status=400)) is PermanentError


def test_a_lost_lease_is_its_own_kind() -> None:
    assert type(error_for("agg_finish", "AG001", "lease 7 on EURUSD/5m is not held", status=400)) is LeaseLost


def test_a_message_says_what_failed_and_what_to_do() -> None:
    assert str(error_for("agg_start", "42501", "permission denied", status=403)) == (
        "agg_start failed: 42501 permission denied. "
        "The key is not a service_role key; set SUPABASE_SERVICE_ROLE_KEY."
    )  # fmt: skip
    assert str(error_for("f", "AG002", "no task", hint="Call sync.")) == "f failed: AG002 no task. Call sync."


@pytest.mark.parametrize(
    ("code", "expected"), [("PGRST301", True), ("42501", True), ("57014", False), ("P0001", False)]
)
def test_errors_that_need_a_changed_setting_are_marked(code: str, expected: bool) -> None:
    assert error_for("f", code, "m").is_configuration is expected
