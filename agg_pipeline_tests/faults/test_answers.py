"""Faults between the pipeline and the REST API: network, proxy and gateway."""

import datetime as dt

import pytest

from agg_pipeline_tests.faults.conftest import retry_without_pauses
from agg_pipeline_tests.faults.judge import errors
from agg_pipeline_tests.faults.proxy import Fault, http_answer
from agg_pipeline_tests.faults.world import World
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import scalar

Snapshot = dict[str, list[dict[str, object]]]
HTML = "<html><head><title>Trouble</title></head><body>come back later</body></html>"

WRITING = [
    "ops_runlog_start",
    "agg_due_tasks",
    "ops_runlog_checkpoint",
    "agg_start_batch",
    "catchup_aggregation_batch",
    "agg_finish_batch",
    "ops_runlog_checkpoints",
    "ops_runlog_finish",
    "ops_report_run",
    "ops_runlog_prune",
    "agg_forget_touched_days",
]


def test_nothing_is_broken(world: World, undisturbed: Snapshot) -> None:
    """The control: one run does all of it, over a proxy that does nothing."""
    run = world.tick()
    assert run.success
    assert len(run.outcomes) == 20
    assert world.snapshot() == undisturbed
    assert set(WRITING) < set(world.proxy.calls), "a function that writes has no test here"
    row = world.recovers("none", "the control: one run")
    assert (row.failed, row.ok) == (0, 1)


@pytest.mark.nightly
def test_the_comparison_finds_lost_and_wrong_bars(world: World) -> None:
    assert world.tick().success
    with world.connect() as db:
        chosen = "canonical_symbol = 'BBB' and timeframe = '15m' and deleted_at is null and ts_utc ="
        db.execute(f"update derived_data_bars set deleted_at = now() where {chosen} '2026-01-05T01:00Z'")
        db.execute(f"update derived_data_bars set high = high + 1, low = low - 1 where {chosen} '2026-01-05T02:00Z'")
        assert errors(db) == (1, 1)


@pytest.mark.nightly
def test_refused(world: World) -> None:
    with world.proxy.broken(Fault("refuse")):
        run = world.tick()
    assert "ConnectError" in run.said
    world.recovers("API: connection refused", "the port closed during a run")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["swallow", "hold"])
def test_black_hole(world: World, kind: str) -> None:
    """No packet comes through; a call that was sent may arrive when the caller is long gone."""
    world.timeout_s = 0.3
    with world.proxy.broken(Fault(kind)) as fault:  # type: ignore[arg-type]
        run = world.tick()
    assert "ReadTimeout" in run.said
    assert fault.hits >= world.tries
    world.timeout_s = 10.0
    arrives = "calls are lost" if kind == "swallow" else "calls arrive after the caller has given up"
    world.recovers("API: black hole", f"no answer during a run; {arrives}", straggling=True)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "function",
    ["agg_start_batch", "catchup_aggregation_batch", "agg_finish_batch"],
)
def test_black_hole_in_mid_run(world: World, function: str) -> None:
    """Every call of one step arrives after the run has given up on it."""
    world.timeout_s = 0.6
    with world.proxy.broken(Fault("hold", on=function, skip=1, times=world.tries)) as fault:
        run = world.tick()
    assert not run.success
    assert fault.hits == world.tries
    world.timeout_s = 10.0
    world.recovers("API: black hole in mid run", f"`{function}` arrives after the run has given up", straggling=True)


@pytest.mark.nightly
def test_reset(world: World) -> None:
    """RST on every call of a run."""
    with world.proxy.broken(Fault("reset")) as fault:
        run = world.tick()
    assert "ReadError" in run.said or "RemoteProtocolError" in run.said
    assert fault.hits >= world.tries
    world.recovers("API: connection reset", "RST on each call of a run")


@pytest.mark.nightly
def test_idle_connections_are_reset(world: World) -> None:
    """A pooled connection that a firewall forgot is opened again, and nobody notices."""
    with world.gateway() as gateway:
        gateway.check_contract()
        opened = world.proxy.opened
        assert world.proxy.reset_live() == 1
        gateway.check_contract()
        assert world.proxy.opened == opened + 1
    run = world.tick()
    assert run.success
    world.recovers("API: idle connection reset", "RST between two calls")


@pytest.mark.nightly
@pytest.mark.parametrize("size", [0, 190])
def test_cut_response(world: World, undisturbed: Snapshot, size: int) -> None:
    """Before the first byte, in the headers: the database has done the work."""
    with world.proxy.broken(Fault("cut", on="catchup_aggregation_batch", times=1, size=size)) as fault:
        run = world.tick()
    assert fault.hits == 1
    assert run.kinds == {"success"}
    assert world.snapshot() == undisturbed
    world.recovers("API: response cut", f"`catchup_aggregation_batch`, after {size} bytes")


@pytest.mark.nightly
def test_every_response_is_cut(world: World) -> None:
    with world.proxy.broken(Fault("cut", size=-5)) as fault:
        run = world.tick()
    assert fault.hits >= world.tries
    assert "RemoteProtocolError" in run.said
    world.recovers("API: response cut", "each one of a run, before its last five bytes")


@pytest.mark.parametrize("function", sampled(WRITING, ["agg_finish_batch"]))
def test_response_is_dropped_after_commit(world: World, undisturbed: Snapshot, function: str) -> None:
    """The caller does not learn that the call succeeded and repeats it: no row is duplicated or missing."""
    with world.proxy.broken(Fault("drop", on=function, times=1)) as fault:
        run = world.tick()
    assert fault.hits == 1
    assert run.success
    after = world.snapshot()
    world.recovers("API: response dropped after commit", f"`{function}`, once")
    assert run.kinds == {"success"}
    assert after == undisturbed


GATEWAY_ANSWERS = [
    (429, "Too Many Requests", ["Retry-After: 1"]),
    (502, "Bad Gateway", []),
    (503, "Service Unavailable", ["Retry-After: 1"]),
    (504, "Gateway Timeout", []),
]


@pytest.mark.parametrize(("status", "reason", "headers"), sampled(GATEWAY_ANSWERS, GATEWAY_ANSWERS[2:3]))
def test_gateway_answers(world: World, status: int, reason: str, headers: list[str]) -> None:
    """A page of HTML instead of JSON: one is retried; if all calls of a run get one, the error names the status."""
    answer = http_answer(status, reason, HTML, "Content-Type: text/html", *headers)
    with world.proxy.broken(Fault("answer", times=1, on="catchup_aggregation_batch", answer=answer)) as once:
        assert world.tick().success
    assert once.hits == 1
    world.begin()
    world.news()
    with world.proxy.broken(Fault("answer", answer=answer)) as fault:
        run = world.tick()
    assert fault.hits >= world.tries
    assert f"HTTP {status}" in run.said
    assert "<html>" not in run.said
    world.recovers(
        f"API: HTTP {status} with HTML", f"once, then to each call of a run{', Retry-After 1 s' * bool(headers)}"
    )


OUTAGES = [
    ("", "the port closed for an hour: twelve runs, five minutes apart"),
    ("catchup_aggregation_batch", "503 to each catch-up for an hour: twelve runs, five minutes apart"),
]


@pytest.mark.nightly
@pytest.mark.parametrize(("on", "done"), OUTAGES)
def test_an_outage_of_an_hour_disables_nothing(
    world: World, on: str, done: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even optional tasks, which three hard failures in a row would disable."""
    with world.connect() as db:
        db.execute("update data_agg_state set is_mandatory = false")
    answer = http_answer(503, "Service Unavailable", HTML, "Content-Type: text/html")
    fault = Fault("answer", on=on, answer=answer) if on else Fault("refuse")
    retry_without_pauses(monkeypatch, 2)  # twelve runs
    with world.proxy.broken(fault):
        for _ in range(12):
            run = world.tick()
            world.now += dt.timedelta(minutes=5)
    assert fault.hits >= 12 or not on
    with world.connect() as db:
        failures = scalar(db, "select max(transient_streak) from data_agg_state")
    assert failures > 3 if on else "ConnectError" in run.said
    world.recovers("outage of an hour", done)
