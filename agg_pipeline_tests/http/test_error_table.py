"""Classification of real errors of the database and PostgREST, over each transport."""

import threading
import time

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline.errors import GatewayError, LeaseLost, PermanentError, TransientError
from agg_pipeline_tests.http.failing import another_api, assert_fails, assert_readable, call

Target = tuple[str, str]

REAL = {
    "23505": "insert into parent values (1)",
    "23503": "insert into child values (1, 99, 2, 1)",
    "23514": "insert into child values (1, 1, 3, 1)",
    "23502": "insert into child values (1, 1, 2, null)",
    "22P02": "select 'x'::int",
    "22007": "select 'x'::timestamptz",
    "22003": "select 1e400::float8",
    "22023": "select generate_series(1, 10, 0)",
    "42P01": "select from nowhere",
    "42703": "select nothing from parent",
    "42883": "select nobody()",
    "P0001": "do $$ begin raise exception E'timeout 429\\nPGRST001'; end $$",
}


@pytest.mark.parametrize("code", REAL)
def test_real_errors_of_the_database_are_permanent(target: Target, code: str) -> None:
    sql = REAL[code]
    error = assert_fails(PermanentError, code, *target, function="fault", p_sql=sql)
    assert "Key (" not in str(error), "rows stay out of the logs"
    assert "Failing row" not in str(error)


TRANSIENT = ["40P01", "55P03", "57014", "57P01", "57P02", "57P03"]
TRANSIENT += ["08000", "08001", "08003", "08006", "53000", "53100", "53200", "53300"]
PERMANENT = ["P0001", "P0002", "AGG01", "AG002", "AG003", "AG004", "XX000", "54001", "57000", "42501", "22023", "23505"]


def raising(code: str, message: str = "as asked", hint: str = "") -> str:
    return f"do $$ begin raise exception using errcode = '{code}', message = '{message}', hint = '{hint}'; end $$"


@pytest.mark.parametrize("code", TRANSIENT)
def test_a_transient_code_is_transient(target: Target, code: str) -> None:
    assert_fails(TransientError, code, *target, function="fault", p_sql=raising(code))


@pytest.mark.parametrize("code", PERMANENT)
def test_a_permanent_code_is_permanent_and_keeps_its_hint(target: Target, code: str) -> None:
    error = assert_fails(PermanentError, code, *target, function="fault", p_sql=raising(code, hint="Ask the author."))
    assert error.hint == "Ask the author."


def test_a_lost_lease_is_its_own_kind(target: Target) -> None:
    assert_fails(LeaseLost, "AG001", *target, function="fault", p_sql=raising("AG001", "lease 7 is not held"))


@pytest.mark.parametrize(
    ("code", "kind"), [("PT429", TransientError), ("PT503", TransientError), ("PT418", PermanentError)]
)
def test_a_status_set_by_a_function_is_classified_like_any_status(
    target: Target, code: str, kind: type[GatewayError]
) -> None:
    assert_fails(kind, code, *target, function="fault", p_sql=raising(code))


def test_a_long_message_of_several_lines_becomes_one_short_line(target: Target) -> None:
    sql = "do $$ begin raise exception '%', repeat(E'many words\\n', 10000); end $$"
    assert_fails(PermanentError, "P0001", *target, function="fault", p_sql=sql)


CHOSEN = {
    "PGRST000": (503, TransientError), "PGRST001": (503, TransientError), "PGRST002": (503, TransientError),
    "PGRST003": (504, TransientError), "PGRST301": (401, TransientError), "PGRST302": (401, TransientError),
    "PGRST303": (401, TransientError), "PGRST100": (400, PermanentError), "PGRST106": (406, PermanentError),
    "PGRST200": (400, PermanentError), "PGRST204": (400, PermanentError), "PGRST205": (404, PermanentError),
    "PGRST300": (500, PermanentError),
}  # fmt: skip


@pytest.mark.parametrize("code", CHOSEN)
def test_codes_of_this_and_of_newer_versions_of_postgrest(api: str, faulty: Stack, code: str) -> None:
    """A function may choose status and code, so the newer ones come over the same wire."""
    status, kind = CHOSEN[code]
    detail = f'{{"status": {status}, "headers": {{"Retry-After": "7"}}}}'
    body = f'{{"code": "{code}", "message": "m", "details": "d", "hint": null}}'
    sql = f"do $$ begin raise sqlstate 'PGRST' using message = '{body}', detail = '{detail}'; end $$"
    error = assert_fails(kind, code, api, faulty.service_role_key, function="fault", p_sql=sql)
    assert error.retry_after_s == (7.0 if kind is TransientError else None)
    assert error.is_configuration is code.startswith("PGRST30")


def test_functions_that_do_not_fit(target: Target) -> None:
    assert "agg-pipeline migrate" in str(assert_fails(PermanentError, "PGRST202", *target, function="nowhere"))
    assert_fails(PermanentError, "PGRST202", *target, function="fault", p_unknown=1)
    assert_fails(PermanentError, "PGRST203", *target, function="twice", p_b=1)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["nan", "set", "object"])
def test_a_value_that_is_no_json_is_refused_before_it_is_sent(target: Target, value: object) -> None:
    with pytest.raises(PermanentError) as refused:
        call(*target, "takes", p_json={"x": value})
    assert_readable(refused.value)


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    "claims",
    [
        {"role": "service_role", "exp": 1}, {"role": "service_role", "nbf": now() + 3600},
        {"role": "service_role", "iat": now() + 3600},
    ],
    ids=["expired", "nbf", "iat"],
)  # fmt: skip
def test_an_expired_or_future_token_is_a_configuration_error(
    api: str, faulty: Stack, claims: dict[str, object]
) -> None:
    error = assert_fails(TransientError, "PGRST301", api, sign_token(faulty.jwt_secret, claims))
    assert error.is_configuration
    assert "SUPABASE_SERVICE_ROLE_KEY" in error.hint


NO_ALGORITHM = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJyb2xlIjoic2VydmljZV9yb2xlIn0."


@pytest.mark.parametrize(
    "key", ["garbage", "sb_secret_planted", NO_ALGORITHM, sign_token("forged" * 8, {"role": "service_role"})]
)
def test_an_invalid_key_is_a_configuration_error(api: str, key: str) -> None:
    assert assert_fails(TransientError, "PGRST301", api, key).is_configuration


def test_an_unknown_role_names_the_variable(api: str, faulty: Stack) -> None:
    for role, code in (("nobody", "22023"), ("postgres", "42501"), ("anon", "42501")):
        key = sign_token(faulty.jwt_secret, {"role": role})
        error = assert_fails(PermanentError, code, api, key, function="fault", p_sql="select 1")
        assert "SUPABASE_SERVICE_ROLE_KEY" in error.hint


def test_an_api_without_secret_or_schema(faulty: Stack) -> None:
    with another_api(faulty, jwt_secret=None) as (url, _):
        assert_fails(PermanentError, "PGRST300", url, faulty.service_role_key)
    with another_api(faulty, db_schemas="pg_catalog") as (url, _):
        assert_fails(PermanentError, "PGRST106", url, faulty.service_role_key)


def test_a_statement_that_takes_too_long(target: Target) -> None:
    """The function's own limit; over a database URL the connection's, which ends before the read timeout."""
    is_direct = target[0].startswith("postgresql:")
    direct, rest = (
        {"function": "fault", "p_sql": "select pg_sleep(5)", "timeout_s": 0.5},
        {"function": "slow", "p_seconds": 5},
    )
    began = time.monotonic()
    error = assert_fails(TransientError, "57014", *target, **(direct if is_direct else rest))  # type: ignore[arg-type]
    assert time.monotonic() - began < 3
    assert "MAX_WINDOWS_PER_RUN" in error.hint


def test_a_locked_row(target: Target, faulty: Stack) -> None:
    with psycopg.connect(faulty.dsn) as holder:
        holder.execute("select from parent where id = 1 for update")
        for sql in (
            "do $$ begin perform from parent where id = 1 for update nowait; end $$",
            "do $$ begin set local lock_timeout = '50ms'; perform from parent where id = 1 for update; end $$",
        ):
            assert_fails(TransientError, "55P03", *target, function="fault", p_sql=sql)


def test_one_side_of_a_deadlock_is_transient_and_the_other_goes_on(target: Target) -> None:
    outcomes: list[object] = []

    def lock(first: int, second: int) -> None:
        sql = (
            "do $$ begin set local deadlock_timeout = '300ms'; "
            f"perform from parent where id = {first} for update; perform pg_sleep(0.2); "
            f"perform from parent where id = {second} for update; end $$"
        )
        try:
            outcomes.append(call(*target, "fault", p_sql=sql))
        except GatewayError as exc:
            outcomes.append(exc.code if isinstance(exc, TransientError) else exc)

    sides = [threading.Thread(target=lock, args=order) for order in ((1, 2), (2, 1))]
    for side in sides:
        side.start()
    for side in sides:
        side.join()
    assert sorted(map(str, outcomes)) == ["1", "40P01"]


def test_a_serialization_failure(target: Target) -> None:
    """This PostgREST runs it again until the caller leaves (newer ones pass it on): our read timeout has to end it."""
    is_direct = target[0].startswith("postgresql:")
    sql = raising("40001")
    assert_fails(
        TransientError, "40001" if is_direct else "ReadTimeout", *target, timeout_s=1, function="fault", p_sql=sql
    )
