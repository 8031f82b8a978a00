"""Retries of calls: which errors, how often, after how long; measured at a server that records requests."""

import contextlib
import email.utils
import itertools
import logging
import time
from collections.abc import Callable, Iterator

import pytest

from agg_pipeline.database.gateway import CONTRACT, AggGateway
from agg_pipeline.database.transport import open_transport, retries
from agg_pipeline.errors import GatewayError, PermanentError, TransientError
from agg_pipeline_tests.http import sockets
from agg_pipeline_tests.http.failing import KEY, assert_readable

Answers = Callable[..., tuple[AggGateway, list[float]]]


@pytest.fixture(autouse=True)
def little_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "JITTER_S", 0.1)


@pytest.fixture
def answering() -> Iterator[Answers]:
    """A gateway to a server that gives these responses in turn, repeating the last; and the times of its requests."""
    with contextlib.ExitStack() as cleanup:

        def start(*answers: bytes) -> tuple[AggGateway, list[float]]:
            asked: list[float] = []

            def behave(connection: sockets.socket.socket) -> None:
                asked.append(time.monotonic())
                sockets.answers(answers[min(len(asked), len(answers)) - 1])(connection)

            port = cleanup.enter_context(sockets.peer(behave))
            gateway = AggGateway(open_transport(f"http://127.0.0.1:{port}", KEY, rest_path="/", timeout_s=5))
            cleanup.callback(gateway.close)
            return gateway, asked

        yield start


def refusal(status: int, code: str | None = None, retry_after: str | None = None) -> bytes:
    body = b'{"message": "m"}' if code is None else f'{{"code": "{code}", "message": "m"}}'.encode()
    return sockets.http_answer(
        status, body, "application/json", *([f"retry-after: {retry_after}"] if retry_after else [])
    )


GOOD = sockets.http_answer(200, str(CONTRACT).encode())
HTML = sockets.http_answer(200, b"<html>Please log in</html>", "text/html")


def test_a_transient_error_is_retried_and_each_retry_logs_one_line(
    answering: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agg_pipeline")
    gateway, asked = answering(refusal(503, "PGRST001", "0"), refusal(500, "40P01"), GOOD)
    gateway.check_contract()
    assert len(asked) == 3
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" m. ")[0] for line in lines] == ["agg_contract failed: PGRST001", "agg_contract failed: 40P01"]
    assert all("\n" not in line and KEY not in line and " Retrying in " in line for line in lines)


@pytest.mark.parametrize("wish", [None, "0"])
def test_retries_end_after_a_few_attempts_with_growing_waits(answering: Answers, wish: str | None) -> None:
    """Retry-After 0, which PostgREST sends at first, is ignored."""
    gateway, asked = answering(refusal(503, None, wish))
    with pytest.raises(TransientError) as failed:
        gateway.check_contract()
    assert failed.value.code == "503"
    waits = [b - a for a, b in itertools.pairwise(asked)]
    assert len(waits) == retries.ATTEMPTS - 1
    assert all(0.2 * 2**n <= wait < 0.2 * 2**n + 0.6 for n, wait in enumerate(waits)), waits


@pytest.mark.parametrize("in_words", [False, True], ids=["seconds", "date"])
def test_no_retry_comes_before_retry_after(answering: Answers, in_words: bool) -> None:
    wish = email.utils.formatdate(time.time() + 3, usegmt=True) if in_words else "2"
    gateway, asked = answering(refusal(429, None, wish), GOOD)
    gateway.check_contract()
    wait = asked[1] - asked[0]
    assert (1.5 if in_words else 2.0) <= wait < 4.5, "a date has whole seconds"


def test_retry_after_is_limited(answering: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    assert retries.RETRY_AFTER_MAX_S == 10.0
    monkeypatch.setattr(retries, "RETRY_AFTER_MAX_S", 0.5)
    gateway, asked = answering(refusal(503, None, "86400"), GOOD)
    gateway.check_contract()
    assert 0.5 <= asked[1] - asked[0] < 1.2


def test_no_attempt_starts_after_the_end_of_retries(answering: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRIES_END_S", 0.5)
    gateway, asked = answering(refusal(503, None, "1"))
    began = time.monotonic()
    with pytest.raises(TransientError):
        gateway.check_contract()
    assert len(asked) == 2
    assert time.monotonic() - began < retries.RETRY_AFTER_MAX_S


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "PGRST301", TransientError), (401, "PGRST302", TransientError), (401, "PGRST303", TransientError),
        (500, "PGRST300", PermanentError), (401, None, PermanentError), (403, "42501", PermanentError),
        (400, "P0001", PermanentError), (404, None, PermanentError), (409, "23505", PermanentError),
    ],
)  # fmt: skip
def test_a_permanent_error_is_raised_at_once(
    answering: Answers, status: int, code: str | None, kind: type[GatewayError]
) -> None:
    gateway, asked = answering(refusal(status, code, "1"))
    with pytest.raises(kind) as failed:
        gateway.sync("DEV")
    assert_readable(failed.value, KEY)
    assert len(asked) == 1


@pytest.mark.parametrize(
    "strange",
    [HTML, sockets.http_answer(200, b'"seven"'), sockets.http_answer(200, b"{cut")],
    ids=["html", "other type", "cut"],
)
def test_a_response_of_the_wrong_shape_is_retried_once_then_permanent(answering: Answers, strange: bytes) -> None:
    gateway, asked = answering(strange, GOOD)
    gateway.check_contract()
    assert len(asked) == 2
    gateway, asked = answering(strange)
    with pytest.raises(PermanentError) as failed:
        gateway.check_contract()
    assert (failed.value.code, len(asked)) == ("shape", 2)
    assert_readable(failed.value, KEY)
    assert "agg-pipeline migrate" in failed.value.hint


def test_a_missing_function_is_retried_once_since_a_migration_may_have_just_created_it(answering: Answers) -> None:
    gateway, asked = answering(refusal(404, "PGRST202"), GOOD)
    gateway.check_contract()
    assert len(asked) == 2
    gateway, asked = answering(refusal(404, "PGRST202"))
    with pytest.raises(PermanentError) as failed:
        gateway.sync("DEV")
    assert (failed.value.code, len(asked)) == ("PGRST202", 2)
    assert "agg-pipeline migrate" in failed.value.hint


def test_wrong_shapes_with_other_errors_between_them_count_together(answering: Answers) -> None:
    gateway, asked = answering(HTML, refusal(503), HTML, GOOD)
    with pytest.raises(PermanentError):
        gateway.check_contract()
    assert len(asked) == 3
