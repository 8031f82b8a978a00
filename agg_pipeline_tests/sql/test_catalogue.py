"""Rules for every object that the migrations create, checked in the catalogue."""

from collections.abc import Iterator

import psycopg
import pytest

from agg_pipeline.database.catalogue import read_catalogue
from agg_pipeline.database.migrate import migrate, migrations
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import fresh_database, rows, scalar

BROWSER_ROLES = ["anon", "authenticated"]
OURS = """
  from pg_proc p where p.pronamespace = 'public'::regnamespace
   and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')"""
PREDECESSOR_RPCS = {
    "agg_get_due_tasks": "p_env_name text, p_now_utc timestamp with time zone DEFAULT now(), p_limit "
    "integer DEFAULT 20, p_running_stale_seconds integer DEFAULT 900",
    "agg_start": "p_symbol text, p_tf text, p_now_utc timestamp with time zone DEFAULT now()",
    "agg_bootstrap_cursor": "p_symbol text, p_to_tf text, p_now_utc timestamp with time zone DEFAULT now()",
    "catchup_aggregation_range": "p_symbol text, p_to_tf text, p_start_cursor_utc timestamp with time zone, "
    "p_max_windows integer DEFAULT 100, "
    "p_now_utc timestamp with time zone DEFAULT NULL::timestamp with time zone, p_derivation_version "
    "integer DEFAULT 1, "
    "p_ignore_confirmation boolean DEFAULT false",
    "agg_finish": "p_symbol text, p_tf text, p_success boolean, p_new_cursor_utc timestamp with time zone "
    "DEFAULT NULL::timestamp with time zone, "
    "p_stats jsonb DEFAULT NULL::jsonb, p_fail_kind text DEFAULT NULL::text, p_error text DEFAULT NULL::text, "
    "p_now_utc timestamp with time zone DEFAULT now(), p_auto_disable_hard_fail_threshold integer DEFAULT 3",
    "sync_agg_state_from_registry": "p_env_name text DEFAULT 'prod'::text, "
    "p_agg_start_utc timestamp with time zone DEFAULT '2025-07-01 00:00:00+00'::timestamp with time zone",
    "ops_runlog_start": "p_run_id uuid, p_job_name text, p_trigger text, p_env_name text",
    "ops_runlog_checkpoint": "p_run_id uuid, p_checkpoint text, p_details jsonb DEFAULT '{}'::jsonb",
    "ops_runlog_finish": "p_run_id uuid, p_status text, p_stats jsonb DEFAULT '{}'::jsonb",
    "ops_runlog_prune": "p_job_name text, p_trigger text, p_keep integer DEFAULT 10",
}
SERVICE_ROLE = {
    "agg_timeframes": {"SELECT"},
    "core_asset_registry_all": {"SELECT", "INSERT", "UPDATE"},
    "data_bars": {"SELECT", "INSERT", "UPDATE"},
    "derived_data_bars": {"SELECT"},
    "data_agg_state": {"SELECT"},
    "agg_task_faults": {"SELECT"},
    "ops_runlog": {"SELECT"},
    "ops_issues": {"SELECT", "INSERT"},
    "quality_workerhealth": {"SELECT", "INSERT"},
    "trading_calendars": {"SELECT"},
    "trading_sessions": {"SELECT"},
    "trading_calendar_changes": {"SELECT"},
}


@pytest.mark.parametrize("role", [*BROWSER_ROLES, "public"])
def test_a_browser_can_call_and_read_nothing(db: psycopg.Connection, role: str) -> None:
    """Supabase grants to anon and authenticated by name, PostgreSQL grants EXECUTE to public: both must be gone."""
    assert_closed(db, role)


def assert_closed(db: psycopg.Connection, role: str) -> None:
    if role == "public":  # has_..._privilege knows no such role; grantee 0 in an ACL, or no ACL at all for a function
        db.execute("create role nobody_in_particular")
        role = "nobody_in_particular"
    callable_ = rows(
        db, f"select p.oid::regprocedure::text as what {OURS} and has_function_privilege(%s, p.oid, 'execute')", [role]
    )
    assert callable_ == []
    relations = rows(
        db,
        """select relname from pg_class where relnamespace = 'public'::regnamespace
            and relkind in ('r', 'p', 'v', 'm', 'f')
             and (has_table_privilege(%s, oid, 'select, insert, update, delete, truncate, references, trigger')
                  or has_any_column_privilege(%s, oid, 'select, insert, update, references'))""",
        [role, role],
    )
    assert relations == []
    sequences = rows(
        db,
        """select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'S'
             and case when relkind = 'S' then has_sequence_privilege(%s, oid, 'usage, select, update') end""",
        [role],
    )
    assert sequences == []


@pytest.mark.parametrize("role", BROWSER_ROLES)
def test_what_later_migrations_make_is_closed_as_well(db: psycopg.Connection, role: str) -> None:
    db.execute("create table public.later (id bigserial)")
    db.execute("create view public.later_view as select 1 as one")
    db.execute("create function public.later_function() returns int language sql set search_path = '' as 'select 1'")
    assert_closed(db, role)


def test_every_table_has_row_level_security(db: psycopg.Connection) -> None:
    found = rows(
        db,
        "select relname, relrowsecurity from pg_class where relnamespace = 'public'::regnamespace "
        "and relkind in ('r', 'p')",
    )
    assert {row["relname"] for row in found if not row["relrowsecurity"]} == set()
    assert {row["relname"] for row in found} >= set(SERVICE_ROLE)


def test_every_view_reads_with_the_rights_of_its_reader(db: psycopg.Connection) -> None:
    """A view of its owner would step around row level security."""
    found = rows(
        db, "select relname, reloptions from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'"
    )
    assert found
    assert [row["relname"] for row in found if "security_invoker=true" not in (row["reloptions"] or [])] == []


def test_every_function_pins_its_search_path(db: psycopg.Connection) -> None:
    found = rows(db, f"select p.proname, p.proconfig {OURS}")
    assert len(found) > 30
    assert [row["proname"] for row in found if 'search_path=""' not in (row["proconfig"] or [])] == []


def test_no_callable_function_is_immutable(db: psycopg.Connection) -> None:
    """PostgreSQL computes such a call while planning; a kept plan then answers without asking who calls."""
    assert rows(db, f"select p.proname {OURS} and p.provolatile = 'i' and p.proname not like '\\_%%'") == []


def test_the_service_role_has_exactly_what_it_needs(db: psycopg.Connection) -> None:
    found = rows(
        db,
        """select relname, array(select kind from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE',
            'TRUNCATE', 'REFERENCES', 'TRIGGER']) kind
                                  where has_table_privilege('service_role', c.oid, kind)) as kinds
             from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')""",
    )
    assert {row["relname"]: set(row["kinds"]) for row in found if row["kinds"]} == SERVICE_ROLE


def test_an_ingester_can_upsert_bars_and_nothing_more(db: psycopg.Connection) -> None:
    db.execute("insert into core_asset_registry_all (canonical_symbol) values ('EURUSD')")
    db.execute("set local role service_role")
    upsert = """insert into public.data_bars (canonical_symbol, timeframe, ts_utc, source)
        values ('EURUSD', '1m', '2026-01-05Z', 's')
                on conflict (canonical_symbol, timeframe, ts_utc) do update set close = 1"""
    db.execute(upsert)
    db.execute(upsert)
    for forbidden in (
        "delete from public.data_bars",
        "truncate public.data_bars",
        "select * from public.agg_dirty_ranges",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), db.transaction():
            db.execute(forbidden)  # type: ignore[call-overload]


def test_functions_without_an_underscore_are_the_api_and_only_they(db: psycopg.Connection) -> None:
    """Callable by service_role, owned by the definer, with a comment that PostgREST shows."""
    found = rows(
        db,
        f"""select p.proname, p.prosecdef, has_function_privilege('service_role', p.oid, 'execute') as callable,
                   obj_description(p.oid, 'pg_proc') as comment {OURS} and p.prorettype <> 'trigger'::regtype""",
    )
    assert [row["proname"] for row in found if row["callable"] == row["proname"].startswith("_")] == []
    api = [row for row in found if not row["proname"].startswith("_")]
    assert {row["proname"] for row in api} >= set(PREDECESSOR_RPCS)
    assert [row["proname"] for row in api if not row["comment"]] == []
    assert [row["proname"] for row in api if not row["prosecdef"]] == ["agg_contract"], "which reads nothing"


def test_there_is_one_overload_of_each_function(db: psycopg.Connection) -> None:
    assert rows(db, f"select p.proname, count(*) {OURS} group by 1 having count(*) > 1") == []


@pytest.mark.parametrize("name", PREDECESSOR_RPCS)
def test_the_functions_of_the_predecessor_keep_their_parameters_and_new_ones_go_last(
    db: psycopg.Connection, name: str
) -> None:
    arguments = scalar(db, f"select pg_get_function_arguments(p.oid) {OURS} and p.proname = %s", [name])
    had = PREDECESSOR_RPCS[name]
    assert arguments.startswith(had)
    new = arguments[len(had) :].strip(", ")
    assert all(" DEFAULT " in argument for argument in new.split(", ") if argument)


def test_statuses_and_error_codes_never_ask_postgrest_to_retry(db: psycopg.Connection) -> None:
    assert rows(db, f"select p.proname {OURS} and p.prosrc ~ '''40001'''") == []


# ---- applied again


@pytest.fixture
def own_database(stack: Stack) -> Iterator[str]:
    with fresh_database(stack.dsn, "fresh") as dsn:
        yield dsn


def test_the_migrations_applied_a_second_time_change_nothing(own_database: str) -> None:
    assert len(migrate(own_database)) == len(migrations())
    with psycopg.connect(own_database, autocommit=True) as db:
        before = read_catalogue(db), rows(db, "select * from agg_timeframes order by 1")
        assert migrate(own_database) == [], "recorded as applied"
        db.execute("delete from supabase_migrations.schema_migrations")
        assert len(migrate(own_database)) == len(migrations())
        assert (read_catalogue(db), rows(db, "select * from agg_timeframes order by 1")) == before
