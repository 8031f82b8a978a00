"""The migration of a live database: broken off, begun twice at once, undone in part by older SQL."""

import concurrent.futures
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import CONTRACT
from agg_pipeline.database.migrate import MIGRATIONS, Migration, MigrationError, migrate, migrations
from agg_pipeline.doctor.database import read_facts
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.predecessor.states import HERE, bring_to, build
from agg_pipeline_tests.sql.helpers import fresh_database, scalar


@pytest.fixture
def dsn(stack: Stack) -> Iterator[str]:
    """The predecessor's database, without bars."""
    with fresh_database(stack.dsn, "live_project") as own:
        with psycopg.connect(own, autocommit=True) as db:
            build(db, history=False)
            bring_to(db, "phase_5")
        yield own


def recorded(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as db:
        return set(scalar(db, "select array_agg(version) from supabase_migrations.schema_migrations") or [])


def test_a_file_that_fails_changes_nothing_and_the_next_attempt_goes_on_there(dsn: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MIGRATIONS, tmp_path / "migrations"))
    broken = folder / "20261123090750_broken.sql"
    broken.write_text("create table public.half (); select 1 / 0;")
    with pytest.raises(MigrationError, match=r"20261123090750_broken\.sql failed: 22012 division by zero"):
        migrate(dsn, folder=folder)
    before = [m.version for m in migrations() if m.version < "20261123090750"]
    assert recorded(dsn) == set(before)
    with psycopg.connect(dsn) as db:
        assert scalar(db, "select to_regclass('public.half')") is None

    found = json.loads(CliRunner().invoke(app, ["doctor", "--json", "--database-url", as_url(dsn)]).stdout)
    assert found["state"] == "a migration to agg_pipeline that was interrupted"
    assert len(found["pending"]) == len(migrations()) - len(before)

    assert len(migrate(dsn)) == len(migrations()) - len(before)
    assert recorded(dsn) == {m.version for m in migrations()}
    assert read_facts(dsn).contract == CONTRACT


def test_a_file_that_cannot_be_recorded_changes_nothing(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("create schema supabase_migrations")
        db.execute(
            "create table supabase_migrations.schema_migrations "
            "(version text primary key, statements text[], name text, "
            "check (name <> 'timeframes'))"
        )
        with pytest.raises(MigrationError, match=r"timeframes\.sql failed: 23514"):
            migrate(dsn)
        assert scalar(db, "select to_regclass('public.agg_timeframes')") is None


def test_a_connection_that_is_cut_in_the_middle_is_one_line_and_the_next_attempt_goes_on(dsn: str) -> None:
    def cut(migration: Migration) -> None:
        if migration.topic == "fn_agg_store":
            with psycopg.connect(dsn, autocommit=True) as killer:
                killer.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
                    "and pid <> pg_backend_pid()"
                )

    with pytest.raises(MigrationError, match=r"fn_agg_store\.sql failed: .*It changed nothing") as broken:
        migrate(dsn, on_apply=cut)
    assert "\n" not in str(broken.value)
    assert len(migrate(dsn)) == sum(m.version >= "20261123091200" for m in migrations())
    assert read_facts(dsn).contract == CONTRACT


def test_two_at_once_take_turns(dsn: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = [pool.submit(migrate, dsn) for _ in range(2)]
        applied = [migration.version for one in done for migration in one.result(timeout=60)]
    assert sorted(applied) == [migration.version for migration in migrations()], "each by one of them"
    assert recorded(dsn) == set(applied)


def test_older_sql_that_was_run_over_ours_is_named_and_mended(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_DB_URL", as_url(dsn))
    migrate(dsn)
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute((HERE / "old_finish.sql").read_bytes())
        db.execute("create function of_the_user() returns int language sql as 'select 1'")
        db.execute("create function of_the_user(n int) returns int language sql as 'select 1'")  # no business of ours
    found = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    [doubled] = [f for f in found["findings"] if f["found"].startswith("defined twice: agg_finish.")]
    assert doubled["remedy"].startswith("agg-pipeline migrate --again")
    assert "Nothing to do" in CliRunner().invoke(app, ["migrate"]).stdout
    again = CliRunner().invoke(app, ["migrate", "--again"])
    assert f"{len(migrations())} migrations applied." in again.stdout, again.output
    assert read_facts(dsn).overloaded == frozenset()


@pytest.fixture
def own_files(dsn: str, tmp_path: Path) -> Path:
    """Three small files, applied to the database."""
    (tmp_path / "1_tables.sql").write_text("create table a ();\ncreate table b ();\n")
    (tmp_path / "2_reload.sql").write_text("-- tells PostgREST\nnotify pgrst;\n")
    (tmp_path / "3_function.sql").write_text(
        "create or replace function public.of_three() returns int language sql as 'select 1';\nselect 1;\n"
    )
    assert len(migrate(dsn, folder=tmp_path)) == 3
    return tmp_path


def test_a_file_that_differs_from_its_record_is_refused_before_anything_is_changed(dsn: str, own_files: Path) -> None:
    (own_files / "1_tables.sql").write_text("create table if not exists a ();\nselect 1;\n")
    (own_files / "4_new.sql").write_text("create table c ();")
    with pytest.raises(MigrationError, match=r"1_tables\.sql is not the file .*Nothing was changed.*migrate --again"):
        migrate(dsn, folder=own_files)
    assert recorded(dsn) == {"1", "2", "3"}
    assert len(migrate(dsn, folder=own_files, again=True)) == 4, "the way that the message names"
    assert migrate(dsn, folder=own_files) == []


@pytest.mark.parametrize(
    "statements",
    [None, [], ["create table a ()", "create table b ()"], ["", "x"]],
    ids=["null", "none", "cli", "other"],
)
def test_records_of_the_supabase_cli_are_not_compared(dsn: str, own_files: Path, statements: list[str] | None) -> None:
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("update supabase_migrations.schema_migrations set statements = %s where version = '1'", [statements])
        db.execute(
            "update supabase_migrations.schema_migrations set statements = %s where version = '2'",
            [["-- tells PostgREST\r\nnotify pgrst"]],
        )
    assert migrate(dsn, folder=own_files) == []


def test_an_older_file_makes_way_for_what_it_cannot_replace(dsn: str, own_files: Path) -> None:
    """The result type of a function changes, and a view of a user's stands on it."""
    (own_files / "4_changed.sql").write_text(
        "drop function if exists public.of_three();\n"
        "create or replace function public.of_three() returns text language sql as $$ select 'x' $$;\n"
    )
    assert len(migrate(dsn, folder=own_files)) == 1
    (own_files / "1_tables.sql").write_text("select 1;\n")
    assert len(migrate(dsn, folder=own_files, again=True)) == 4
    with psycopg.connect(dsn, autocommit=True) as db:
        assert scalar(db, "select of_three()") == "x"
        db.execute("create view of_the_user as select of_three()")
        with pytest.raises(
            MigrationError, match=r"3_function\.sql failed: 2BP01 .*view of_the_user depends on function"
        ):
            migrate(dsn, folder=own_files, again=True)
        assert scalar(db, "select * from of_the_user") == "x"


def as_url(dsn: str) -> str:
    values = psycopg.conninfo.conninfo_to_dict(dsn)
    return f"postgresql://{values['user']}:{values['password']}@{values['host']}:{values['port']}/{values['dbname']}"
