"""Access over HTTP: each kind of caller against each relation, column and function of the catalogue."""

import base64
import json
import time
from collections.abc import Callable

import httpx
import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline_tests.security.conftest import bearer
from agg_pipeline_tests.security.surface import Surface, openings
from agg_pipeline_tests.sql.test_catalogue import SERVICE_ROLE

SERVICE = {"role": "service_role"}
PAST, FUTURE = 1_600_000_000, 4_000_000_000


def unsigned(claims: dict[str, object], signature: str = "") -> str:
    """A token with algorithm none."""
    head, body = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "none"}, claims)
    )
    return f"{head}.{body}.{signature}"


def of_another_body(token: str) -> str:
    """A token of a browser with the claims of service_role put in."""
    head, _, signature = token.split(".")
    return ".".join((head, unsigned(SERVICE | {"exp": FUTURE}).split(".")[1], signature))


STRANGERS: dict[str, Callable[[str], dict[str, str]]] = {
    "no token": lambda _: {},
    "key in apikey only": lambda secret: {"apikey": sign_token(secret, SERVICE)},
    "anon": lambda secret: bearer(sign_token(secret, {"role": "anon", "exp": FUTURE})),
    "authenticated": lambda secret: bearer(sign_token(secret, {"role": "authenticated", "exp": FUTURE})),
    "a token without a role": lambda secret: bearer(sign_token(secret, {"sub": "someone", "exp": FUTURE})),
    "the superuser": lambda secret: bearer(sign_token(secret, {"role": "postgres", "exp": FUTURE})),
    "expired": lambda secret: bearer(sign_token(secret, SERVICE | {"exp": PAST})),
    "not valid yet": lambda secret: bearer(sign_token(secret, SERVICE | {"nbf": FUTURE})),
    "forged signature": lambda _: bearer(sign_token("not the secret of this server, but as long", SERVICE)),
    "claims exchanged": lambda secret: bearer(of_another_body(sign_token(secret, {"role": "anon"}))),
    "alg none": lambda _: bearer(unsigned(SERVICE)),
    "alg none, signed": lambda secret: bearer(unsigned(SERVICE, sign_token(secret, SERVICE).split(".")[2])),
    "no JWT": lambda _: bearer("sb_secret_0123456789abcdef"),
}


@pytest.fixture(scope="module")
def surface(stack: Stack) -> Surface:
    found = Surface.read(stack.dsn)
    assert {r.name for r in found.relations} >= set(SERVICE_ROLE)
    assert len(found.functions) > 30
    return found


@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_is_refused_everything(api: str, stack: Stack, surface: Surface, who: str) -> None:
    """A role of the database is tested by column as well; any other token is refused before the database."""
    known = who in ("anon", "authenticated")
    assert openings(api, surface, STRANGERS[who](stack.jwt_secret), columns=known) == set()


@pytest.mark.parametrize("who", ["no token", "anon", "authenticated"])
def test_the_description_of_the_api_shows_a_stranger_nothing(api: str, stack: Stack, who: str) -> None:
    answer = httpx.get(api, headers=STRANGERS[who](stack.jwt_secret), trust_env=False)
    assert set(answer.json()["paths"]) == {"/"}
    assert answer.json().get("definitions", {}) == {}


def test_the_service_role_may_do_what_it_needs_and_nothing_to_history(
    api: str, stack: Stack, surface: Surface, clean: psycopg.Connection
) -> None:
    found = openings(api, surface, bearer(stack.service_role_key))
    by_relation = {
        r.name: {right for what, right in found if what.partition(".")[0] == r.name} for r in surface.relations
    }
    assert {name: {right.upper() for right in rights} for name, rights in by_relation.items() if rights} == SERVICE_ROLE
    called = {what for what, right in found if right == "execute"}
    assert called == {f.name for f in surface.functions if not f.name.startswith("_")}


def test_the_service_role_cannot_empty_a_table(db: psycopg.Connection, surface: Surface) -> None:
    db.execute("set local role service_role")
    for relation in surface.relations:
        for statement in ("delete from", "truncate"):
            with pytest.raises(psycopg.Error) as refused, db.transaction():
                db.execute(f'{statement} public."{relation.name}"')
            # A view that joins is refused whoever asks: no rows of its own (55000), no table (42809).
            assert refused.value.sqlstate in ({"42501"} if relation.updatable else {"42501", "55000", "42809"})


def test_no_other_schema_is_served(api: str, stack: Stack, clean: psycopg.Connection) -> None:
    schemas = [name for (name,) in clean.execute("select nspname from pg_namespace where nspname <> 'public'")]
    assert "supabase_migrations" in schemas
    for schema in schemas:
        headers = bearer(stack.service_role_key) | {"accept-profile": schema}
        answer = httpx.get(f"{api}/schema_migrations", headers=headers, trust_env=False)
        assert (answer.status_code, answer.json()["code"]) == (406, "PGRST106"), schema


# ---- what is opened is found


@pytest.mark.parametrize(
    ("right", "on", "role", "who", "found"),
    [
        ("select", "data_bars", "anon", "no token", ("data_bars", "select")),
        ("insert", "agg_timeframes", "anon", "anon", ("agg_timeframes", "insert")),
        ("update (close)", "data_bars", "authenticated", "authenticated", ("data_bars.close", "update")),
        ("select (status)", "data_agg_state", "public", "anon", ("data_agg_state.status", "select")),
        ("delete, select (id)", "ops_runlog", "public", "authenticated", ("ops_runlog", "delete")),
        ("execute", "function agg_release", "public", "no token", ("agg_release", "execute")),
        ("execute", "function _agg_raise", "anon", "authenticated", None),
        ("execute", "function _agg_raise", "anon", "anon", ("_agg_raise", "execute")),
    ],
)
def test_an_opened_grant_is_found(
    scratch: Stack, scratch_db: psycopg.Connection, right: str, on: str, role: str, who: str,
    found: tuple[str, str] | None,
) -> None:  # fmt: skip
    assert scratch.api_url is not None
    scratch_db.execute(f"grant {right} on {on} to {role}")
    surface = Surface.read(scratch.dsn).only(on.removeprefix("function "))
    opened = openings(scratch.api_url, surface, STRANGERS[who](scratch.jwt_secret))
    scratch_db.execute(f"revoke {right} on {on} from {role}")
    assert found in opened if found else opened == set()


def test_new_objects_with_open_grants_are_found(scratch: Stack, scratch_db: psycopg.Connection) -> None:
    assert scratch.api_url is not None
    scratch_db.execute(
        """create table public.later (id int);
           create view public.later_view as select id from public.later;
           create function public.later_function(p_text text) returns text language sql as 'select p_text';
           grant all on public.later, public.later_view to anon;
           grant execute on function public.later_function to anon;
           notify pgrst, 'reload schema'"""
    )
    call = f"{scratch.api_url}/rpc/later_function"
    deadline = time.monotonic() + 10
    while httpx.post(call, json={"p_text": "x"}, trust_env=False).status_code == 404:
        assert time.monotonic() < deadline, "PostgREST has not read the schema again"
        time.sleep(0.02)
    found = openings(scratch.api_url, Surface.read(scratch.dsn), {})
    rights = {"select", "insert", "update", "delete"}
    for name in ("later", "later_view"):
        assert {right for what, right in found if what.partition(".")[0] == name} == rights
    assert ("later_function", "execute") in found
    assert all(what.startswith("later") for what, _ in found)
    scratch_db.execute("drop table public.later cascade; drop function public.later_function")
