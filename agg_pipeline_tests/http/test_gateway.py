"""The gateway over both transports on a real database, and over REST behind proxies that answer for it."""

import datetime as dt
import http.server
import threading
from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import Finish
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack, temporary
from agg_pipeline.embedded.postgrest import sign_token
from agg_pipeline.errors import PermanentError, TransientError
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.ticking import tick_until_quiet

BEGIN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
NOW = BEGIN + dt.timedelta(minutes=61)


def bars(symbol: str, count: int = 60) -> list[dict[str, object]]:
    return [
        {
            "canonical_symbol": symbol,
            "ts_utc": (BEGIN + n * dt.timedelta(minutes=1)).isoformat(),
            "open": 1.5, "high": 2.5, "low": 0.5, "close": 2.0, "vol": None, "vwap": None, "trade_count": None,
        }
        for n in range(count)
    ]  # fmt: skip


def test_any_symbol_is_aggregated(gateway: AggGateway, clean: psycopg.Connection) -> None:
    symbols = ["EURUSD", "BTC/USD", "BTC-USD", "Ünï cödé", 'it\'s "quoted"; drop table data_bars']
    for symbol in symbols:
        gateway.register_asset(symbol, start=BEGIN, base_timeframe="1m")
        gateway.load_bars(bars(symbol), timeframe="1m", source="test")
    tick_until_quiet(gateway, NOW)
    counts = assert_equals_oracle(clean)
    for symbol in symbols:
        assert counts[symbol, "1h"] == 1
        assert [(row.symbol, row.timeframe, row.bars) for row in gateway.bar_summary([symbol])] == [
            (symbol, "5m", 12), (symbol, "15m", 4), (symbol, "1h", 1)]  # fmt: skip
        assert {h.timeframe: h.backlog_windows for h in gateway.health([symbol])} == {
            "5m": 0, "15m": 0, "1h": 0, "4h": 0, "1d": 0}  # fmt: skip


def test_load_bars_counts_what_it_changed(gateway: AggGateway) -> None:
    gateway.register_asset("EURUSD", start=BEGIN, base_timeframe="1m")
    gateway.load_bars(bars("EURUSD", 3), timeframe="1m", source="test")
    again = bars("EURUSD", 4)
    again[0]["close"] = 1.75
    result = gateway.load_bars(again, timeframe="1m", source="test")
    assert (result.inserted, result.updated, result.unchanged) == (1, 1, 2)


def test_a_batch_returns_one_result_per_task_in_order(gateway: AggGateway) -> None:
    gateway.register_asset("EURUSD", start=BEGIN, base_timeframe="1m")
    five, unknown = Task(symbol="EURUSD", timeframe="5m"), Task(symbol="NOPE", timeframe="5m")
    started = gateway.start([five, unknown, five], now=NOW, owner="me", lease_seconds=60)
    assert [(str(s), s.success) for s in started] == [("EURUSD/5m", True), ("NOPE/5m", False), ("EURUSD/5m", False)]
    assert started[1].error == "not_idle_or_missing"
    assert getattr(started[2].error, "sqlstate", None) == "AG003"


def test_a_lost_lease_is_a_result_not_an_exception(gateway: AggGateway, clean: psycopg.Connection) -> None:
    gateway.register_asset("EURUSD", start=BEGIN, base_timeframe="1m")
    [lease] = gateway.start([Task(symbol="EURUSD", timeframe="5m")], now=NOW, owner="me", lease_seconds=60)
    clean.execute("select agg_release('me')")
    success = Finish(symbol="EURUSD", timeframe="5m", lease_token=lease.lease_token, success=True)
    [finished] = gateway.finish([success], now=NOW, hard_limit=3)
    assert finished.error is not None
    assert finished.error.sqlstate == "AG001"
    assert f"lease {lease.lease_token} on EURUSD/5m" in finished.error.message


def test_an_unknown_timeframe_lists_what_there_is(gateway: AggGateway) -> None:
    with pytest.raises(PermanentError, match=r"unknown timeframe: 7m\. There are: 5m, 15m, 1h, 4h, 1d"):
        gateway.due_tasks("PROD", now=NOW, limit=1, stale_seconds=900, timeframes=["7m"])


@pytest.mark.parametrize("direct", [False, True], ids=["rest", "postgres"])
def test_a_database_without_the_functions_names_the_command_to_run(direct: bool) -> None:
    with temporary() as empty:
        if not direct and empty.api_url is None:
            pytest.skip(f"no PostgREST on this machine: {empty.api_missing}")
        url = empty.dsn if direct else empty.api_url or ""
        gateway = AggGateway(open_transport(url, empty.service_role_key, rest_path="/"))
        try:
            with pytest.raises(PermanentError, match=r"not migrated.* are missing: agg_.*agg-pipeline migrate"):
                gateway.check_contract()
        finally:
            gateway.close()


@pytest.fixture
def api(stack: Stack) -> str:
    if stack.api_url is None:
        pytest.skip(f"no PostgREST on this machine: {stack.api_missing}")
    return stack.api_url


def call(url: str, key: str, function: str = "agg_contract", timeout_s: float = 10) -> object:
    """One call without the gateway's retries."""
    transport = open_transport(url, key, rest_path="/", timeout_s=timeout_s)
    try:
        return transport.call(function, {})
    finally:
        transport.close()


@pytest.mark.parametrize("claims", [{"role": "anon"}, {"role": "authenticated"}])
def test_the_public_key_is_refused_permanently(api: str, stack: Stack, claims: dict[str, str]) -> None:
    """Also on a connection that served the pipeline before: a plan that is kept there must check the caller again."""
    for _ in range(10):  # the sixth use of a prepared statement may keep its plan
        call(api, stack.service_role_key)
    with pytest.raises(PermanentError) as refused:
        call(api, sign_token(stack.jwt_secret, claims))
    assert refused.value.is_configuration
    assert "SUPABASE_SERVICE_ROLE_KEY" in str(refused.value)


@pytest.mark.parametrize(
    ("secret", "expiry"), [("not the secret of this server, but as long", 4_000_000_000), (None, 1)]
)
def test_a_forged_or_expired_key_is_transient_and_raised_at_once(
    api: str, stack: Stack, secret: str | None, expiry: int
) -> None:
    """Transient as in the predecessor, but marked as a configuration error, since no retry succeeds."""
    key = sign_token(secret or stack.jwt_secret, {"role": "service_role", "exp": expiry})
    with pytest.raises(TransientError) as refused:
        call(api, key)
    assert refused.value.is_configuration
    assert key not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "postgresql://nobody:planted-secret@127.0.0.1:9/nowhere"])
def test_an_unreachable_database_is_one_readable_line_without_its_password(url: str) -> None:
    with pytest.raises(TransientError, match="no answer from") as refused:
        call(url, "planted-secret")
    assert "\n" not in str(refused.value)
    assert "planted-secret" not in str(refused.value)


@pytest.fixture
def strange_server() -> Iterator[tuple[str, list[tuple[int, str, bytes]]]]:
    """A proxy that returns the responses which the test puts into the list."""
    answer: list[tuple[int, str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, kind, body = answer[0]
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", answer
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind", "body", "error", "code"),
    [
        (502, "text/html", b"<html>Bad gateway</html>", TransientError, "502"),
        (429, "application/json", b'{"message": "slow down"}', TransientError, "429"),
        (404, "text/html", b"<html>No such page</html>", PermanentError, "404"),
        (200, "text/html", b"<html>Please log in</html>", TransientError, "shape"),
        (500, "application/json", b'{"code": "57014", "message": "canceled"}', TransientError, "57014"),
        (400, "application/json", b'{"code": "P0001", "message": "timeout 429"}', PermanentError, "P0001"),
    ],
)
def test_an_error_is_classified_by_code_and_status_never_by_its_text(
    strange_server: tuple[str, list[tuple[int, str, bytes]]],
    status: int, kind: str, body: bytes, error: type[Exception], code: str,
) -> None:  # fmt: skip
    url, answer = strange_server
    answer.append((status, kind, body))
    with pytest.raises(error) as refused:
        call(url, "key")
    assert getattr(refused.value, "code", None) == code
    assert "<html>" not in str(refused.value)


@pytest.mark.parametrize(("status", "said"), [(400, "refused: Bearer [key]"), (200, "{'told': 'Bearer [key]'}")])
def test_an_answer_that_repeats_the_key_does_not_show_it(
    strange_server: tuple[str, list[tuple[int, str, bytes]]], status: int, said: str
) -> None:
    """Some error pages show the headers of the request."""
    url, answer = strange_server
    body = b'{"code": "P0001", "message": "refused: Bearer planted", "hint": "planted"}' if status == 400 else (
        b'{"told": "Bearer planted"}'
    )  # fmt: skip
    answer.append((status, "application/json", body))
    try:
        shown = str(call(url, "planted"))
    except PermanentError as exc:
        shown = str(exc)
    assert said in shown
    assert "planted" not in shown
