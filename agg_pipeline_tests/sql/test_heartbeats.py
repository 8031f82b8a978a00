"""ops_heartbeat: which runs have a process that lives, by the clock of the database."""

import psycopg
import pytest

from agg_pipeline_tests.sql.helpers import scalar

RUN, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"


def beat(db: psycopg.Connection, run_id: str, environment: str = "prod", *, ended: bool = False) -> None:
    assert scalar(db, "select ops_heartbeat(%s, %s, %s)", [run_id, environment, ended]) == {"success": True}


def of(db: psycopg.Connection, environment: str) -> dict[str, float]:
    found: dict[str, float] = scalar(db, "select ops_heartbeats_of(%s)", [environment])
    return found


def test_a_run_lives_from_its_first_sign_of_life_to_its_end(db: psycopg.Connection) -> None:
    assert of(db, "PROD") == {}
    beat(db, RUN)
    beat(db, OTHER, "DEV")
    db.execute("update ops_heartbeats set beat_at = beat_at - interval '60 seconds'")
    assert of(db, "prod") == {RUN: pytest.approx(60, abs=5)}
    beat(db, RUN)
    assert of(db, "PROD") == {RUN: pytest.approx(0, abs=5)}
    beat(db, RUN, ended=True)
    beat(db, RUN, ended=True)
    assert (of(db, "PROD"), of(db, "DEV").keys()) == ({}, {OTHER})


def test_what_nobody_ended_goes_with_retention(db: psycopg.Connection) -> None:
    beat(db, RUN)
    beat(db, OTHER)
    db.execute("update ops_heartbeats set beat_at = now() - interval '25 hours' where run_id = %s", [RUN])
    scalar(db, "select ops_runlog_expire('agg-master', 'PROD', 14)")
    assert of(db, "PROD").keys() == {OTHER}
