"""agg-pipeline load that is stopped or killed: whole batches stay, and loading the file again completes them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sampling import sampled

BATCH_ROWS = 500  # a tenth of what it is, so that a load of many batches is short
LOAD = (
    f"from agg_pipeline.ingest import upload; upload.BATCH_ROWS = {BATCH_ROWS}; from agg_pipeline.cli import app; app()"
)
HEADER = "symbol,ts_utc,open,high,low,close,volume\n"


def lines(first: int, count: int) -> str:
    """Valid bars, one a minute from minute ``first`` of 1 January 2026 on."""
    return "".join(
        f"EURUSD,2026-01-{1 + n // 1440:02}T{n // 60 % 24:02}:{n % 60:02}:00Z,1.1,1.2,1.0,1.15,{n}\n"
        for n in range(first, first + count)
    )


@contextmanager
def loading(stack: Stack, *files: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own that takes signals as one does that was started by hand."""
    environment = dict(os.environ) | dict(stack.environment()) | {"ENV_NAME": "PROD", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD, "load", *files],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A worker of the tests ignores one, and a test before this one may have ignored the other.
        preexec_fn=lambda: [signal.signal(signum, signal.SIG_DFL) for signum in (signal.SIGINT, signal.SIGTERM)],
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def count(db: psycopg.Connection) -> int:
    row = db.execute("select count(*) from data_bars").fetchone()
    assert row is not None
    return int(row[0])


def wait_for_rows(db: psycopg.Connection, at_least: int) -> None:
    until = time.monotonic() + 60
    while count(db) < at_least:
        assert time.monotonic() < until, "the load stores nothing"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("signum", "code"), sampled([(signal.SIGINT, 130), (signal.SIGTERM, 143)], [(signal.SIGINT, 130)])
)
def test_a_stopped_load_keeps_whole_batches_and_says_where_to_go_on(
    stack: Stack, clean: psycopg.Connection, tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    """It reads a pipe that stays open, so that it is stopped while it waits for the rest of the second batch."""
    whole = HEADER + lines(0, 2 * BATCH_ROWS)
    with loading(stack, "/dev/stdin", "next.csv") as process:
        assert process.stdin is not None
        process.stdin.write(HEADER + lines(0, BATCH_ROWS + 100))
        process.stdin.flush()
        wait_for_rows(clean, BATCH_ROWS)
        time.sleep(0.2)  # the answer for the batch arrives
        process.send_signal(signum)
        printed, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert f"{BATCH_ROWS:,} bars inserted" in printed
    assert (
        f"/dev/stdin: stopped by {signum.name}; all up to line {BATCH_ROWS + 1} is done, in whole batches. Go on from "
        f"line {BATCH_ROWS + 2}, or load it again: what is stored does not change.\nNot loaded: next.csv\n"
    ) in said
    assert count(clean) == BATCH_ROWS

    path = tmp_path / "bars.csv"
    path.write_text(whole)
    with loading(stack, str(path)) as process:
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert f"{BATCH_ROWS:,} bars inserted, 0 updated, {BATCH_ROWS:,} unchanged" in printed


@pytest.mark.nightly
def test_a_killed_load_leaves_whole_batches_and_the_next_one_completes_them(
    stack: Stack, clean: psycopg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(HEADER + lines(0, 40 * BATCH_ROWS))
    with loading(stack, str(path)) as process:
        wait_for_rows(clean, BATCH_ROWS)
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    time.sleep(1)  # the server may still be storing the batch that was sent
    left = count(clean)
    assert left % BATCH_ROWS == 0
    assert 0 < left < 40 * BATCH_ROWS, "it was killed in the middle"
    with loading(stack, str(path)) as process:
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert f"{40 * BATCH_ROWS - left:,} bars inserted, 0 updated, {left:,} unchanged" in printed


@pytest.mark.nightly
def test_a_process_substitution_is_loaded(stack: Stack, clean: psycopg.Connection, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(HEADER + lines(0, 10))
    reading, writing = os.pipe()
    os.write(writing, path.read_bytes())
    os.close(writing)
    environment = dict(os.environ) | dict(stack.environment()) | {"ENV_NAME": "PROD"}
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, "load", f"/dev/fd/{reading}"],
        env=environment, pass_fds=[reading], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(reading)
    assert loaded.returncode == 0, loaded.stderr
    assert f"/dev/fd/{reading}: 10 bars inserted" in loaded.stdout
    assert count(clean) == 10
