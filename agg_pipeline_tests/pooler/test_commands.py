"""Every command that uses a database works through a transaction pooler and leaves nothing in the pooled session."""

import contextlib
from pathlib import Path

import psycopg
import pytest
import typer

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.migrate import migrations
from agg_pipeline.database.transport import open_transport
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.pooler.conftest import Pooled, run
from agg_pipeline_tests.pooler.pgbouncer import leaves_nothing, pgbouncer
from agg_pipeline_tests.sql.helpers import at, put, scalar
from agg_pipeline_tests.ticking import tick_until_quiet

RANGE = ("--from", "2026-01-05T09:00", "--to", "2026-01-05T10:00")
BARS = "symbol,ts_utc,open,high,low,close,volume\nGBPUSD,2026-01-05T10:00Z,1,2,1,2,5\n"

# What a command says when it has done its work, in the order in which they run.
COMMANDS = {
    ("sync",): "",
    ("load", "bars.csv"): "bars.csv: 1 bars inserted",
    ("calendars", "--apply"): "",
    ("calendar", "GBPUSD", "fx_24x5"): "GBPUSD",
    ("tick", "--symbol", "EURUSD"): "bars written in PROD",
    ("status", "--bars"): "EURUSD",
    ("explain", "EURUSD", "5m", "2026-01-05T09:30"): "Built, quality 2",
    ("chart", "EURUSD", "5m", "--out", "chart.svg", *RANGE): "chart.svg: 10 bars, 1 gaps.",
    ("gaps", "EURUSD", "5m", *RANGE): "missing",
    ("logs",): "",
    ("check", "--symbol", "EURUSD", *RANGE): "",
    ("verify", "--symbol", "EURUSD", *RANGE): "",
    ("doctor",): "This is agg_pipeline",
    ("rebuild", "EURUSD", "5m", *RANGE, "--do"): "",
    ("repair", "--apply"): "",
    ("pause", "EURUSD", "1h", "--reason", "test", "--by", "ann"): "",
    ("resume", "EURUSD", "1h", "--by", "ann"): "",
    ("migrate",): "Nothing to do",
    ("migrate", "--again"): f"{len(migrations())} migrations applied.",
    ("partition",): "data_bars: about",
    ("partition", "--do"): "Partitioned: data_bars, derived_data_bars.",
}

# These use no database URL: a stack of their own, Dagster's API, a developer's checkout.
WITHOUT = {"demo", "up", "down", "backfill", "migration"}


def test_no_command_is_left_out() -> None:
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert {arguments[0] for arguments in COMMANDS} == known.keys() - WITHOUT


# One of each way to connect; a tick starts another Python with Dagster, which takes as long as all the others together.
SAMPLE = {"load", "calendars", "status", "doctor", "rebuild", "migrate", "partition"}
CASES = [it if it[0] in SAMPLE else pytest.param(it, marks=pytest.mark.nightly, id=" ".join(it)) for it in COMMANDS]


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_a_command_works_and_leaves_nothing(
    pooled: Pooled, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SUPABASE_URL", pooled.url)
    monkeypatch.setenv("SUPABASE_DB_URL", pooled.url)
    monkeypatch.chdir(tmp_path)
    Path("bars.csv").write_text(BARS)
    with leaves_nothing(pooled.url):
        done = run(*arguments)
    assert done.exit_code == 0 or arguments[0] in ("check", "doctor"), done.output  # these judge what they find
    assert done.stderr == "" or arguments[0] == "load", done.output
    assert COMMANDS[arguments] in done.output


def test_a_tick_builds_the_bars_and_leaves_nothing(pooled: Pooled) -> None:
    with psycopg.connect(pooled.direct, autocommit=True) as db:
        put(db, "EURUSD", "10:30", 60)
        with leaves_nothing(pooled.url), contextlib.closing(AggGateway(open_transport(pooled.url, ""))) as gateway:
            assert tick_until_quiet(gateway, at("11:31")) > 0
        assert assert_equals_oracle(db)["EURUSD", "5m"] == 28


def test_after_doctor_another_client_writes(pooled: Pooled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", pooled.url)
    run("doctor")
    with psycopg.connect(pooled.url, autocommit=True) as other:
        assert scalar(other, "show default_transaction_read_only") == "off"
        other.execute("create table if not exists facts (fact text)")
        other.execute("insert into facts values ('written')")


@pytest.mark.parametrize(
    "leak",
    [
        "set default_transaction_read_only = on", "set statement_timeout = '1s'", "set search_path = ''",
        "set role service_role", "set timezone = 'Asia/Tokyo'; set lock_timeout = 7", "prepare p as select 1",
        "select pg_advisory_lock(7)", "create temporary table t ()", "declare c cursor with hold for select 1",
        "listen news",
    ],
)  # fmt: skip
def test_what_another_one_leaves_would_be_noticed(pooled: Pooled, leak: str) -> None:
    with pgbouncer(pooled.direct) as url, pytest.raises(AssertionError), leaves_nothing(url):
        execute(url, leak)


def execute(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as careless:
        careless.execute(statements.encode())
