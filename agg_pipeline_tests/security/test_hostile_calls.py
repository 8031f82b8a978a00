"""Every function of the API, read from the catalogue, called over HTTP with hostile and malformed arguments."""

import json
import time
from collections.abc import Iterator

import httpx
import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.security.conftest import bearer
from agg_pipeline_tests.security.surface import Function, Surface
from agg_pipeline_tests.sql.helpers import put, register, settle

SYMBOL, RUN = "EURUSD", "00000000-0000-4000-8000-000000000001"
GOOD: dict[str, object] = {
    "text": SYMBOL, "timestamp with time zone": "2026-01-05T00:00:00Z", "integer": 1, "bigint": 1, "boolean": True,
    "jsonb": [], "uuid": RUN, "text[]": [SYMBOL],
}  # fmt: skip
TEXTUAL = ("text", "text[]", "jsonb")

# Each would leave a table behind if its text became part of a statement, or take seconds.
INJECTIONS = [
    "'; create table public.injected(); --",
    "' || (select pg_sleep(5)) || '",
    "'); create table public.injected(); select ('",
    '"; create table public.injected(); --',
    "$$; create table public.injected(); $$",
    "EURUSD' or '1'='1",
    "\\'; create table public.injected(); --",
    "%s %I %L {0} :p_symbol",
    "public.injected",
    "EURUSD/*",
    "＇; create table public.injected(); --",  # noqa: RUF001 - the full width apostrophe is what is tried
    "{EURUSD,NULL}",
    "current_setting('request.headers')",
]
MALFORMED = {
    "null": None, "a number": 1, "a huge number": 10**30, "negative": -1, "the largest int": 2**31 - 1,
    "the largest bigint": 2**63 - 1, "a fraction": 1.5, "a word": "x", "nothing": "", "true": True,
    "an object": {}, "a list": [], "a list of null": [None], "a list of text": ["x"], "a list of objects": [{}],
    "a list of lists": [[]], "infinity": "infinity", "-infinity": "-infinity", "before Christ": "4713-01-01 BC",
    "the last day": "294276-12-31T00:00:00Z", "no time at all": "300000-01-01", "a zero byte": "a\x00b",
    "zero bytes in a list": ["a\x00b"], "half a character": "\ud800",
    "a task of objects": [{"canonical_symbol": {"a": 1}, "timeframe": [1], "lease_token": "x", "success": "maybe",
                           "new_cursor_utc": "never", "stats": "x", "fail_kind": 1, "checkpoint": {}}],
    "a task out of range": [{"canonical_symbol": SYMBOL, "timeframe": "5m", "lease_token": 10**30, "success": None,
                             "new_cursor_utc": "infinity", "stats": [1], "ts_utc": "x"}],
    "a bar of words": [{"canonical_symbol": SYMBOL, "ts_utc": "2026-01-05T00:00:00Z", "open": "x"}],
    "oversize text": "x" * 500_000, "oversize list": [{}] * 5_000, "deep": json.loads("[" * 500 + "]" * 500),
}  # fmt: skip
BODIES = {
    "empty": b"", "half": b'{"p_symbol": "EUR', "no object": b"[]", "text": b'"x"', "number": b"1", "null": b"null",
    "not UTF-8": b'{"p_symbol": "\xff"}', "two": b"{}{}", "1e400": b'{"p_limit": 1e400}', "NaN": b'{"p_limit": NaN}',
    "deep": b"[" * 20_000, "unknown parameter": b'{"p_nobody_knows": 1}', "markup": b"<a/>",
}  # fmt: skip


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    if stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
    headers = bearer(stack.service_role_key) | {"content-type": "application/json"}
    with httpx.Client(base_url=f"{stack.api_url}/rpc/", headers=headers, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def functions(stack: Stack) -> list[Function]:
    found = [f for f in Surface.read(stack.dsn).functions if not f.name.startswith("_")]
    assert len(found) > 25
    unknown = {t for f in found for t in f.parameters.values()} - GOOD.keys()
    assert unknown == set(), "GOOD wants a value of this type"
    return found


@pytest.fixture
def market(clean: psycopg.Connection) -> psycopg.Connection:
    """A symbol with built bars, with more to build, a lease that is held and a run that is open."""
    register(clean, SYMBOL)
    put(clean, SYMBOL, "00:00", 180)
    settle(clean, "2026-01-05T03:01")
    put(clean, SYMBOL, "03:00", 60)
    clean.execute("select public.agg_start(%s, '5m', '2026-01-05T04:02Z')", [SYMBOL])
    clean.execute("select public.ops_runlog_start(%s, 'j', 't', 'prod')", [RUN])
    return clean


def arguments(function: Function, parameter: str, value: object) -> bytes:
    """A good call with one bad value."""
    good = {p: "5m" if p in ("p_tf", "p_to_tf") else GOOD[function.parameters[p]] for p in function.required}
    return json.dumps(good | {parameter: value}).encode()


def fault(answer: httpx.Response) -> str | None:
    """Errors of a response: an internal error, or a refusal that is not about the data of the request."""
    if answer.status_code < 300:
        return None
    code = str(answer.json().get("code"))
    clean = code.startswith(("AG00", "22", "23", "54", "PGRST1", "PGRST2"))
    return None if 400 <= answer.status_code < 500 and clean else f"{answer.status_code} {answer.text[:200]}"


def raw_bars(db: psycopg.Connection) -> object:
    return db.execute("select md5(string_agg(b::text, ',' order by id)) from data_bars b").fetchone()


def relations(db: psycopg.Connection) -> object:
    return db.execute("select array_agg(c.oid::regclass::text order by 1) from pg_class c where oid > 16383").fetchone()


@pytest.mark.parametrize("share", sampled([1, 4], [4]))
def test_sql_in_a_text_stays_text(
    http: httpx.Client, functions: list[Function], market: psycopg.Connection, share: int
) -> None:
    """Every text for every parameter; or a fourth of them, so that four parameters in a row meet all texts."""
    before, had = raw_bars(market), relations(market)
    faults, tried, met = {}, 0, 0
    for function in functions:
        for parameter, kind in function.parameters.items():
            met += kind in TEXTUAL
            for text in INJECTIONS[met % share :: share] if kind in TEXTUAL else ():
                task = {"canonical_symbol": text, "timeframe": text, "checkpoint": text, "code": text, "error": text}
                value = {"text": text, "text[]": [text], "jsonb": [task]}[kind]
                began = time.monotonic()
                answer = http.post(function.name, content=arguments(function, parameter, value))
                problem = fault(answer) or ("slow" if time.monotonic() - began > 4 else None)
                if problem:
                    faults[function.name, parameter, text] = problem
                tried += 1
    assert faults == {}
    assert tried > 50 * len(INJECTIONS) // share
    assert relations(market) == had
    assert raw_bars(market) == before


@pytest.mark.parametrize("share", sampled([1, 9], [9]))
def test_a_malformed_value_is_refused_or_means_nothing(
    http: httpx.Client, functions: list[Function], market: psycopg.Connection, share: int
) -> None:
    """Every value for every parameter; or a ninth of them, so that nine parameters in a row meet all values."""
    before, faults, values = raw_bars(market), {}, list(MALFORMED.items())
    for function in functions:
        for n, parameter in enumerate(function.parameters):
            for what, value in values[n % share :: share]:
                if problem := fault(http.post(function.name, content=arguments(function, parameter, value))):
                    faults[function.name, parameter, what] = problem
    assert faults == {}
    assert raw_bars(market) == before


@pytest.mark.parametrize("what", BODIES)
def test_a_malformed_body_is_refused(
    http: httpx.Client, functions: list[Function], market: psycopg.Connection, what: str
) -> None:
    before = raw_bars(market)
    for function in functions:
        if not function.required:
            continue  # PostgREST takes an empty list, say, for no parameters
        answer = http.post(function.name, content=BODIES[what])
        assert fault(answer) is None, (function.name, fault(answer))
        assert answer.status_code >= 400, (function.name, answer.text)
    assert raw_bars(market) == before


def test_another_content_type_is_refused(http: httpx.Client, functions: list[Function]) -> None:
    for kind in ("text/plain", "application/xml", "multipart/form-data"):
        for function in functions:
            if len(function.required) > 1:  # text and bytes go to a function of one unnamed parameter, which none has
                answer = http.post(function.name, content=b"{}", headers={"content-type": kind})
                assert 400 <= answer.status_code < 500, (function.name, kind, answer.text)
