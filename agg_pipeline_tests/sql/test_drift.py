"""Doctor names what in a live database is not as in this version, and `migrate --again` puts exactly that right."""

import contextlib
from typing import LiteralString

import psycopg
import pytest

from agg_pipeline.database.catalogue import differences, read_catalogue
from agg_pipeline.database.gateway import CONTRACT
from agg_pipeline.database.migrate import MigrationError, migrate
from agg_pipeline.database.partitioning import partition
from agg_pipeline.database.transport import open_transport
from agg_pipeline.doctor import examine
from agg_pipeline.doctor.rest import NOT_CHECKED
from agg_pipeline_tests.sql.helpers import scalar

PUTS_BACK = "agg-pipeline migrate --again, which puts them back"
CAUSE = " (changed by hand, or left from another version)"


def as_url(dsn: str) -> str:
    of = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"postgresql://{of['user']}:{of['password']}@{of['host']}:{of['port']}/{of['dbname']}"


def found(dsn: str, about: str = "") -> list[str]:
    """What doctor says, but of what it had no data for."""
    with contextlib.closing(open_transport(as_url(dsn), "")) as transport:
        findings = examine(transport, dsn=dsn).findings
    return [f"{f.about}: {f.found}" for f in findings if f.about.startswith(about)]


def test_a_migrated_database_is_as_in_this_version(live: str) -> None:
    assert found(live) == []


def test_what_a_user_has_made_is_not_compared(live: str) -> None:
    with psycopg.connect(live, autocommit=True) as db:
        db.execute(
            """create table prices (id int primary key);
               grant all on prices to anon;
               create function price() returns int language sql as 'select 1';
               grant execute on function price() to anon;
               create function agg_of_the_user() returns trigger language plpgsql as 'begin return new; end';
               create trigger of_the_user before insert on data_bars
                 for each row execute function agg_of_the_user();
               create view v_of_the_user as select * from v_aggregation_health; grant select on v_of_the_user to anon;
               create index on data_bars (ingested_at); alter table data_bars add column colour text;
               grant delete, trigger on data_bars to service_role;
               grant delete on core_asset_registry_all to service_role;
               create role reporting; grant select on derived_data_bars to reporting"""
        )
        assert [line for line in found(live) if CAUSE in line] == []
        db.execute("drop owned by reporting; drop role reporting")


TAMPERED: list[tuple[LiteralString, str]] = [
    (
        "create or replace function _agg_backoff(p_failures integer) returns interval language sql "
        "set search_path = '' as $$ select interval '1 second' $$",
        "functions: not as in this version: _agg_backoff",
    ),
    ("alter function _agg_store cost 7", "functions: not as in this version: _agg_store"),
    ("alter function agg_explain reset search_path", "functions: not as in this version: agg_explain"),
    ("drop function bars_as_of", "functions: missing: bars_as_of"),
    (
        "create function _agg_known_calendar(p_calendar text) returns text language sql as 'select 1'",
        "functions: there twice: _agg_known_calendar",
    ),
    ("alter view agg_tasks reset (security_invoker)", "views: not as in this version: agg_tasks"),
    ("drop view v_aggregation_health", "views: missing: v_aggregation_health"),
    (
        "alter table derived_data_bars disable trigger agg_dirty_on_update",
        "triggers: not as in this version: agg_dirty_on_update on derived_data_bars",
    ),
    ("drop trigger agg_dirty_on_insert on data_bars", "triggers: missing: agg_dirty_on_insert on data_bars"),
    (
        "alter table agg_timeframes disable row level security",
        "grants: row level security is not as in this version on agg_timeframes",
    ),
    (
        "revoke execute on function agg_health from service_role",
        "grants: missing: EXECUTE on agg_health(text[], timestamp with time zone) to service_role",
    ),
    (
        "grant execute on function agg_health to authenticated",
        "grants: anyone with the public key may use agg_health() (anon, authenticated)",
    ),
    (
        "grant execute on function _agg_minute(timestamptz) to service_role",
        "grants: not of this version: EXECUTE on _agg_minute(timestamp with time zone) to service_role",
    ),
    ("grant select on agg_timeframes to anon", "grants: not of this version: SELECT on agg_timeframes to anon"),
    (
        "grant select (close) on derived_data_bars to anon",
        "grants: not of this version: SELECT on derived_data_bars.close to anon",
    ),
    (
        "grant update on data_agg_state to service_role",
        "grants: service_role has privileges that it does not need on data_agg_state (UPDATE)",
    ),
]


@pytest.mark.parametrize(("sql", "said"), TAMPERED, ids=[said.split(" (")[0] for _, said in TAMPERED])
def test_what_was_changed_by_hand_is_named_once(live: str, sql: LiteralString, said: str) -> None:
    with psycopg.connect(live, autocommit=True) as db:
        db.execute(sql)
    assert [line.removesuffix(CAUSE) for line in found(live) if line.removesuffix(CAUSE) == said] == [said]
    of_the_same_object = [line for line in found(live) if said.split(": ")[-1] in line]
    assert len(of_the_same_object) == 1, of_the_same_object


def test_again_puts_back_all_that_is_named(live: str) -> None:
    with psycopg.connect(live, autocommit=True) as db:
        before = read_catalogue(db)
        for sql, _ in TAMPERED:
            db.execute(sql)
        db.execute("alter default privileges in schema public grant select on tables to anon")
        assert len(differences(before, read_catalogue(db))) > len(TAMPERED)
        with contextlib.closing(open_transport(as_url(live), "")) as transport:
            remedies = {f.remedy for f in examine(transport, dsn=live).findings if CAUSE in f.found}
        assert remedies == {PUTS_BACK}
        migrate(live, again=True)
        assert differences(before, read_catalogue(db)) == []
        assert found(live) == []


def test_a_function_of_another_version_is_named_until_it_is_gone(live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(live, autocommit=True) as db:
        db.execute("create function _agg_old() returns int language sql as 'select 1'")
    assert found(live) == [], "a name that no version of ours has had"
    monkeypatch.setattr("agg_pipeline.doctor.drift.defined_functions", lambda: {"_agg_old"})
    assert found(live) == ["functions: no longer part of this version: _agg_old" + CAUSE]


def test_a_newer_database_is_not_compared_and_not_taken_back(live: str) -> None:
    with psycopg.connect(live, autocommit=True) as db:
        db.execute(
            f"create or replace function agg_contract() returns int language sql as 'select {CONTRACT + 1}'".encode()
        )
        assert [line for line in found(live) if CAUSE in line] == []
        with pytest.raises(MigrationError, match=rf"newer \(contract {CONTRACT + 1}\).*Nothing was changed"):
            migrate(live, again=True)
        assert scalar(db, "select agg_contract()") == CONTRACT + 1


def test_a_partitioned_database_is_as_in_this_version_and_can_be_migrated_again(live: str) -> None:
    partition(live)
    assert found(live) == []
    with psycopg.connect(live, autocommit=True) as db:
        before = read_catalogue(db)
        migrate(live, again=True)
        assert differences(before, read_catalogue(db)) == []


def test_over_rest_it_is_said_that_nothing_was_compared() -> None:
    assert "functions, views and triggers that differ from this version" in NOT_CHECKED
