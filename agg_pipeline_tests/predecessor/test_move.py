"""From each state of a predecessor's database to ours: doctor, migrate, repair, ten ticks, and every bar is right."""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.migrate import migrations
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.predecessor.states import NOW, STATES, database
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import rows, scalar
from agg_pipeline_tests.ticking import tick

KEPT = ("core_asset_registry_all", "data_bars", "derived_data_bars", "data_agg_state", "ops_runlog")
SAID = {
    "before_phase_5": "the predecessor, before its phase 5, health tables absent",
    "doubled_finish": "the predecessor, since its phase 5, with two agg_finish, health tables absent",
    "phase_5": "the predecessor, since its phase 5, health tables of its newer worker",
    "hour_of_010": "the predecessor, since its phase 5, with two agg_finish, with the 1h function of its migration 010",
    "health_of_the_validator": "the predecessor, since its phase 5, health tables of the validator",
}


@pytest.fixture(params=sampled(STATES, ["doubled_finish"]))
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dsn(stack: Stack, two_weeks: str, state: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database of one state, which the commands talk to."""
    with database(stack.dsn, state, copy_of=two_weeks) as own:
        monkeypatch.setenv("SUPABASE_URL", own)
        monkeypatch.setenv("SUPABASE_DB_URL", own)
        monkeypatch.setenv("ENV_NAME", "PROD")
        yield own


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


def doctor() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("doctor", "--json").stdout)
    return found


def test_doctor_migrate_repair_ten_ticks(dsn: str, state: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        before = doctor()
        assert before["state"].startswith(SAID[state])
        assert len(before["pending"]) == len(migrations())
        found = " ".join(finding["found"] for finding in before["findings"])
        for expected in ("frozen at an empty window", "XAUUSD/5m (2026-01-25", "BTCUSD/5m (2026-01-14 03:12:00)"):
            assert expected in found
        counts = {table: scalar(db, f"select count(*) from {table}") for table in KEPT}
        bars = rows(db, "select * from derived_data_bars order by id")

        assert run("migrate").exit_code == 0
        assert "Nothing to do" in run("migrate").stdout
        assert {table: scalar(db, f"select count(*) from {table}") for table in KEPT} == counts
        for finding in doctor()["findings"]:
            _, resume, task = finding["remedy"].partition("agg-pipeline resume ")
            if resume:
                assert run("resume", *task.split()).exit_code == 0

        plan = run("repair", "--plan")
        assert plan.exit_code == 1
        assert {table: scalar(db, f"select count(*) from {table}") for table in KEPT} == counts, "a plan writes nothing"
        done = run("repair", "--apply")
        assert done.exit_code == 0, done.output
        again = run("repair", "--plan")
        assert again.exit_code == 0, again.output

        db.execute("update core_asset_registry_all set calc_15m = true, calc_4h = true, calc_1d = true")
        gateway = AggGateway(open_transport(dsn, ""))
        for _ in range(10):
            tick(gateway, NOW, max_windows=1000)
        gateway.close()
        built = assert_equals_oracle(db)
        assert (built["BTCUSD", "1d"], built["EURUSD", "1d"], built["DE40", "15m"], built["XAUUSD", "5m"]) == (
            14,
            10,
            340,
            860,
        )
        after = doctor()
        assert after["sound"], after
        assert after["state"] == "agg_pipeline, contract 4"

        # Nothing of the user's is lost: every bar still says what it said, live or as an earlier revision.
        kept = {row["id"]: row for row in rows(db, "select * from derived_data_bars")}
        changing = {"deleted_at", "updated_at"}
        for bar in bars:
            assert {k: kept[bar["id"]][k] for k in bar if k not in changing} == {
                k: bar[k] for k in bar if k not in changing
            }
        final = {table: scalar(db, f"select count(*) from {table}") for table in KEPT}
        print(f"{state}: rows before {counts}, after {final}")
        assert (final["data_bars"], final["ops_runlog"]) == (counts["data_bars"], counts["ops_runlog"])
