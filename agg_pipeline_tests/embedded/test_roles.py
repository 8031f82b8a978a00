"""Supabase's roles, as the database and PostgREST see them."""

from collections.abc import Iterator

import httpx
import psycopg
import pytest
import sqlalchemy

from agg_pipeline import embedded
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline_tests.embedded.processes import wait_until


@pytest.fixture(scope="module")
def http(asked: embedded.Stack) -> Iterator[httpx.Client]:
    """PostgREST, with one table that only the service role may read and one with the default privileges."""
    if asked.api_url is None:
        pytest.skip(f"no PostgREST: {asked.api_missing}")
    with psycopg.connect(asked.dsn, autocommit=True) as connection:
        connection.execute("create table closed (n int); insert into closed values (7)")
        connection.execute("revoke all on closed from anon, authenticated")
        connection.execute("create table open (n int)")
        connection.execute(
            "create function limit_of_statements() returns text language sql"
            " as $$ select current_setting('statement_timeout') $$"
        )
        connection.execute("create function whoami() returns text language sql as 'select current_user::text'")
        connection.execute("revoke execute on function whoami from public")  # not enough: anon holds it by name
        connection.execute("notify pgrst, 'reload schema'")
    with httpx.Client(base_url=asked.api_url, trust_env=False, timeout=20) as client:
        wait_until(lambda: client.post("/rpc/whoami").status_code == 200)  # PostgREST reloads at most once a second
        yield client


def bearer(token: str) -> dict[str, str]:
    """Header for a token."""
    return {"Authorization": f"Bearer {token}"}


def test_service_role_reads(http: httpx.Client, asked: embedded.Stack) -> None:
    """Its key is accepted and names the role."""
    assert http.get("/closed", headers=bearer(asked.service_role_key)).json() == [{"n": 7}]
    assert http.post("/rpc/whoami", headers=bearer(asked.service_role_key)).json() == "service_role"


def test_the_others_are_refused(http: httpx.Client, asked: embedded.Stack) -> None:
    """401 without a key or with a forged one, 403 for a known role without the grant."""
    authenticated = sign_token(asked.jwt_secret, {"role": "authenticated"})
    forged = sign_token("0" * 64, {"role": "service_role"})
    superuser = sign_token(asked.jwt_secret, {"role": "postgres"})
    assert http.get("/closed").status_code == 401
    assert http.get("/closed", headers=bearer(authenticated)).status_code == 403
    assert http.get("/closed", headers=bearer(forged)).status_code == 401
    assert http.get("/closed", headers=bearer(superuser)).status_code == 403


def test_default_privileges_are_as_open_as_supabases(http: httpx.Client) -> None:
    """What migrations must cope with: a new table and a new function belong to anon."""
    assert http.get("/open").status_code == 200
    assert http.post("/rpc/whoami").json() == "anon"


def test_statements_end_at_the_limit_of_the_role(http: httpx.Client, asked: embedded.Stack) -> None:
    """PostgREST applies the settings of the role it switches to."""
    assert http.post("/rpc/limit_of_statements").json() == "3s"
    assert http.post("/rpc/limit_of_statements", headers=bearer(asked.service_role_key)).json() == "8s"


def test_roles_and_settings(asked: embedded.Stack) -> None:
    """As in a hosted project; UTC; Dagster's role is not a superuser."""
    with psycopg.connect(asked.dsn) as connection:
        roles = connection.execute(
            "select rolname, rolsuper, rolcanlogin, rolinherit, rolbypassrls, rolconfig"
            " from pg_roles where rolname !~ '^pg_' order by 1"
        ).fetchall()
        assert roles == [
            ("anon", False, False, False, False, ["statement_timeout=3s"]),
            ("authenticated", False, False, False, False, ["statement_timeout=8s"]),
            ("authenticator", False, True, False, False, ["statement_timeout=8s"]),
            ("dagster", False, True, True, False, None),
            ("postgres", True, True, True, True, None),
            ("service_role", False, False, False, True, ["statement_timeout=8s"]),
        ]
        assert connection.execute("show timezone").fetchone() == ("UTC",)
        assert connection.execute("show jit").fetchone() == ("off",)
        assert connection.execute("show fsync").fetchone() == ("off",), "temporary stacks are not durable"


def test_no_login_without_a_password(asked: embedded.Stack) -> None:
    """Loopback is shared with every user of the machine."""
    for user in ("postgres", "authenticator", "dagster"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(asked.dsn, user=user, password="wrong").close()


def test_dagsters_database_is_its_own(asked: embedded.Stack) -> None:
    """The SQLAlchemy URL names the driver; the role may create its tables."""
    assert asked.dagster_dsn.startswith("postgresql+psycopg2://dagster:")
    engine = sqlalchemy.create_engine(asked.dagster_dsn)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("create table runs (id int)"))
        assert connection.execute(sqlalchemy.text("select current_database()")).scalar_one() == "dagster"
    engine.dispose()
