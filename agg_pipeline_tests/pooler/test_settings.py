"""Settings that a database URL asks for hold in each transaction, and not a moment longer."""

import contextlib
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

import agg_pipeline
from agg_pipeline.database.connection import connect, divide_options, transaction
from agg_pipeline.database.transport import open_transport
from agg_pipeline.errors import GatewayError, PermanentError
from agg_pipeline_tests.pooler.conftest import Pooled
from agg_pipeline_tests.pooler.pgbouncer import leaves_nothing, pgbouncer
from agg_pipeline_tests.sql.helpers import scalar

PACKAGE = Path(agg_pipeline.__file__).parent
SHOW = """create or replace function public.shown(p_name text) returns text language sql as
  $$ select current_setting(p_name) $$"""


def shown(url: str, name: str, **more: Any) -> object:
    with contextlib.closing(open_transport(url, "", **more)) as transport:
        return transport.call("shown", {"p_name": name})


@pytest.fixture
def showing(pooled: Pooled) -> Pooled:
    with psycopg.connect(pooled.direct, autocommit=True) as db:
        db.execute(SHOW)
    return pooled


def test_a_pooler_refuses_startup_options(pooled: Pooled) -> None:
    """As every client that sends them learns; ours does not send any."""
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter"):
        psycopg.connect(pooled.url, options="-c timezone=UTC")


def test_a_call_has_its_settings_and_the_session_does_not(showing: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    with leaves_nothing(showing.url):
        assert shown(showing.url, "timezone") == "UTC"
        assert shown(showing.url, "statement_timeout", timeout_s=10) == "8s"
        asked = f"{showing.url}&options=-c%20lock_timeout%3D700%20--statement-timeout%3D9s%20-csearch_path%3Da,%5C%20b"
        assert shown(asked, "lock_timeout") == "700ms"
        assert shown(asked, "statement_timeout") == "9s", "the URL wins"
        assert shown(asked, "search_path") == "a, b"
        with monkeypatch.context() as of_the_shell:
            of_the_shell.setenv("PGOPTIONS", "-c lock_timeout=800")
            assert shown(showing.url, "lock_timeout") == "800ms"
        with connect(asked) as db, transaction(db, snapshot=True, statement_timeout="1s"):
            assert scalar(db, "show transaction_isolation") == "repeatable read"
            assert scalar(db, "show transaction_read_only") == "on"
            assert scalar(db, "show statement_timeout") == "9s"
        with connect(asked) as db, transaction(db):
            assert scalar(db, "show transaction_read_only") == "off"


def test_a_call_that_fails_leaves_nothing_either(showing: Pooled) -> None:
    with leaves_nothing(showing.url), contextlib.closing(open_transport(showing.url, "")) as transport:
        with pytest.raises(GatewayError, match="42704"):
            transport.call("shown", {"p_name": "nothing"})
        with pytest.raises(PermanentError, match="cannot be sent"):
            transport.call("shown", {"p_name": {1: object()}})
        assert transport.call("shown", {"p_name": "timezone"}) == "UTC", "on the same connection"
        for _ in range(10):  # after five a driver prepares a statement by default
            transport.call("agg_contract", {})


def test_a_pooler_that_allows_no_transactions_still_carries_calls(showing: Pooled) -> None:
    """Settings and call are sent as one."""
    with pgbouncer(showing.direct, pool_mode="statement") as url:
        assert shown(url, "statement_timeout", timeout_s=10) == "8s"


def test_a_setting_of_the_session_only_is_sent_and_refused_with_the_port_to_use(pooled: Pooled) -> None:
    """A URL that asks for read-only transactions must not write because a pooler lost the wish."""
    url = f"{pooled.url}&options=-c%20default_transaction_read_only%3Don"
    with pytest.raises(PermanentError, match=r"unsupported startup parameter.* port 5432"):
        shown(url, "timezone")


@pytest.mark.parametrize(
    ("options", "settings", "rest"),
    [
        ("", {}, ""),
        ("-c a=1 -cb=2 --c-d=3", {"a": "1", "b": "2", "c_d": "3"}, ""),
        (r"-c search_path=a\ b\\c", {"search_path": r"a b\c"}, ""),
        ("-c  TimeZone=UTC", {"timezone": "UTC"}, ""),
        ("reference=abcd -c a=b=c", {"a": "b=c"}, "reference=abcd"),
        ("-c default_transaction_read_only=on -c a=", {"a": ""}, "-c default_transaction_read_only=on"),
        ("-e -c", {}, "-e -c"),
    ],
)
def test_startup_options_are_divided(options: str, settings: dict[str, str], rest: str) -> None:
    assert divide_options(options) == (settings, rest)


def test_connections_are_opened_in_one_place() -> None:
    """And in embedded/, which may not import it, for servers that it has started itself."""
    opens = re.compile(r"\bpsycopg\.connect\(|\bConnection\.connect\(|\bfrom psycopg import .*\bconnect\b")
    found = [path for path in PACKAGE.rglob("*.py") if opens.search(path.read_text(encoding="utf-8"))]
    names = sorted(path.relative_to(PACKAGE).as_posix() for path in found)
    assert names == ["database/connection.py", "embedded/postgres.py"]


def test_nothing_outlives_a_transaction() -> None:
    """In Python and in SQL: no setting of a session, no lock, no prepared statement, no channel, no temporary table."""
    words = re.compile(
        r"set_config\([^)]*\bfalse\)|pg_(try_)?advisory_(un)?lock(_shared|_all)?\(|\bset session\b|\bprepare \w+ as\b"
        r"|\blisten \w|\bwith hold\b|execute\(\s*\"set (?!local|transaction)"
        r"|create temporary table (?!\w+ on commit drop)"
        r"|^set (?!local)\w|\bdiscard all\b",
        re.MULTILINE,
    )
    files = [path for kind in ("py", "sql") for path in PACKAGE.rglob(f"*.{kind}")]
    assert len(files) > 100, "nothing was read"
    found = [f"{path.name}: {match[0]}" for path in files for match in words.finditer(path.read_text())]
    assert found == []
