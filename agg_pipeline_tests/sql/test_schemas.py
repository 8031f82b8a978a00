"""supabase/schemas is what a database becomes: by all migrations, and by the one that `make migration` writes next."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.database import fingerprints
from agg_pipeline.database.catalogue import differences, read_catalogue
from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.migration_writer import Draft, draft_migration, write_migration
from agg_pipeline.database.schemas import SUPABASE, apply_schemas, schema_files
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.sql.helpers import fresh_database, rows, scalar

MEND = "supabase/schemas and the migrations differ; write what is missing with `make migration NAME=topic`:\n"


@pytest.fixture(scope="module")
def declared(stack: Stack) -> Iterator[str]:
    """A database to which the schemas were applied."""
    with fresh_database(stack.dsn, "all_schemas") as dsn:
        apply_schemas(dsn)
        yield dsn


def test_the_migrations_give_what_the_schemas_say(migrated: str, declared: str) -> None:
    with psycopg.connect(migrated) as before, psycopg.connect(declared) as after:
        has, wants = read_catalogue(before), read_catalogue(after)
        found = differences(has, wants)
        if found:
            pytest.fail(MEND + "\n".join(f"  {difference}" for difference in found), pytrace=False)
        assert len(wants) > 400, "nothing was read"
        for rule in ("select * from public.agg_timeframes order by 1", "select calendar from public.trading_calendars"):
            assert sorted(map(str, rows(before, rule))) == sorted(map(str, rows(after, rule))), MEND + rule


def test_the_fingerprints_that_ship_are_those_of_the_schemas(declared: str) -> None:
    with psycopg.connect(declared) as connection:
        now = fingerprints.fingerprints(read_catalogue(connection))
    shipped = fingerprints.load()
    changed = [
        f"{kind} {identity}"
        for kind in now
        for identity in now[kind].keys() | shipped[kind].keys()
        if now[kind].get(identity) != shipped[kind].get(identity)
    ]
    assert changed == [], "doctor would report them in every database; `make migration` writes supabase/catalogue.json"


def test_the_order_names_every_file(tmp_path: Path) -> None:
    supabase = Path(shutil.copytree(SUPABASE, tmp_path / "supabase"))
    assert len(schema_files(supabase)) > 30
    (supabase / "schemas" / "new.sql").touch()
    with pytest.raises(ValueError, match=r"config\.toml.*\['new\.sql'\]"):
        schema_files(supabase)


# ---- the next migration


@pytest.fixture
def supabase(tmp_path: Path) -> Path:
    """A copy of the folder, to be edited."""
    return Path(shutil.copytree(SUPABASE, tmp_path / "supabase"))


def edit(supabase: Path, file: str, old: str, new: str) -> None:
    path = supabase / "schemas" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), encoding="utf-8")


def drafted(stack: Stack, supabase: Path, before: str) -> Draft:
    with fresh_database(stack.dsn, "edited_schemas") as wanted:
        apply_schemas(wanted, supabase)
        with psycopg.connect(wanted) as connection:
            fingerprints.save(read_catalogue(connection), supabase / "catalogue.json")
        return draft_migration(before, wanted)


def assert_becomes(stack: Stack, supabase: Path, live: str) -> str:
    """The migration that is written turns the live database into the edited schemas, twice over; its text."""
    path = write_migration("edited", drafted(stack, supabase, live), supabase / "migrations")
    assert [m.path.name for m in migrate(live, folder=path.parent)] == [path.name]
    assert migrate(live, folder=path.parent, again=True)[-1].path == path
    left = drafted(stack, supabase, live)
    assert not left, left
    return path.read_text(encoding="utf-8")


def test_no_difference_is_no_migration(stack: Stack, supabase: Path, live: str) -> None:
    assert not drafted(stack, supabase, live)


def test_an_edited_function_reaches_a_live_database(stack: Stack, supabase: Path, live: str) -> None:
    edit(supabase, "bar_counts.sql", "count(*) as bars, min(d.ts_utc)", "count(*) + 0 as bars, min(d.ts_utc)")
    text = assert_becomes(stack, supabase, live)
    assert text.count("CREATE OR REPLACE FUNCTION") == 1
    assert "revoke" not in text, "grants stay with a function that is replaced"
    assert text.endswith("notify pgrst, 'reload schema';\n")


def test_a_function_with_another_result_or_arguments_is_dropped_and_made_anew_with_its_grants(
    stack: Stack, supabase: Path, live: str
) -> None:
    """The view that reads it keeps the views that a user has made of it."""
    edit(supabase, "contract.sql", "agg_contract() returns integer", "agg_contract() returns bigint")
    edit(supabase, "health.sql", "_agg_health(p_symbols text[], p_now_utc timestamptz)",
         "_agg_health(p_symbols text[], p_now_utc timestamptz, p_new boolean default true)")  # fmt: skip
    edit(supabase, "health.sql", "comment on function public._agg_health(text[], timestamptz)",
         "comment on function public._agg_health(text[], timestamptz, boolean)")  # fmt: skip
    edit(supabase, "health.sql", "execute on function public._agg_health(text[], timestamptz)",
         "execute on function public._agg_health(text[], timestamptz, boolean)")  # fmt: skip
    edit(supabase, "health.sql", "select * from public._agg_health(null, now())",
         "select h.*, true as is_new from public._agg_health(null, now()) h")  # fmt: skip
    path = write_migration("edited", drafted(stack, supabase, live), supabase / "migrations")
    with psycopg.connect(live, autocommit=True) as db:
        db.execute("create view of_the_user as select canonical_symbol, state from v_aggregation_health")
    migrate(live, folder=path.parent)
    with psycopg.connect(live, autocommit=True) as db:
        assert rows(db, "select * from of_the_user") == []
        assert rows(db, "select is_new from v_aggregation_health") == []
        db.execute("drop view of_the_user")
    assert not drafted(stack, supabase, live)


def test_arguments_grants_comments_and_what_is_gone(stack: Stack, supabase: Path, live: str) -> None:
    edit(supabase, "contract.sql", "agg_contract() from public", "agg_contract() from service_role, public")
    edit(supabase, "contract.sql", "grant execute on function public.agg_contract() to service_role;", "")
    edit(supabase, "contract.sql", "is 'Version of the functions that", "is 'It''s the version of the functions that")
    edit(supabase, "bars.sql", "grant select on table public.derived_data_bars", "grant select, delete on table "
         "public.derived_data_bars")  # fmt: skip
    path = supabase / "schemas" / "bars_as_of.sql"
    text = path.read_text(encoding="utf-8").replace("p_as_of_utc timestamptz)", "p_as_of_utc timestamptz, p_new text "
                                                    "default null)")  # fmt: skip
    path.write_text(
        text.replace("timestamptz, timestamptz, timestamptz)", "timestamptz, timestamptz, timestamptz, text)")
    )
    (supabase / "schemas" / "misplaced_rows.sql").write_text("")
    text = assert_becomes(stack, supabase, live)
    for line in (
        "drop function if exists public.agg_misplaced_rows(",
        "comment on function public.agg_contract() is 'It''s the version",
        "revoke execute on function public.agg_contract() from service_role;",
        "grant delete on table public.derived_data_bars to service_role;",
        "revoke all on function public.bars_as_of(",
    ):
        assert line in text, text
    with psycopg.connect(live) as db:
        assert not scalar(db, "select has_function_privilege('anon', oid, 'execute') from pg_proc where proname = "
                          "'bars_as_of'")  # fmt: skip


def test_a_view_that_loses_a_column_is_dropped_and_made_anew(stack: Stack, supabase: Path, live: str) -> None:
    edit(supabase, "source_bars.sql", "\n       b.is_partial,\n", "\n")
    path = write_migration("edited", drafted(stack, supabase, live), supabase / "migrations")
    with psycopg.connect(live, autocommit=True) as db:
        db.execute("create view of_the_user as select ts_utc from agg_source_bars")
    with pytest.raises(Exception, match=r"2BP01.*of_the_user depends on view") as refused:
        migrate(live, folder=path.parent)
    assert "CASCADE" not in str(refused.value), "no advice to drop what is the user's"
    with psycopg.connect(live, autocommit=True) as db:
        db.execute("drop view of_the_user")
    path.unlink()
    assert_becomes(stack, supabase, live)


def test_what_needs_a_developer_is_named_in_the_file(stack: Stack, supabase: Path, live: str) -> None:
    edit(supabase, "agg_state.sql", "  paused_by text,", "  paused_by text,\n  new_column text default 'x',")
    edit(supabase, "agg_state.sql", "(fillfactor = 50)", "(fillfactor = 60)")
    edit(supabase, "ops_tables.sql", "  duration_ms integer,\n", "")
    with psycopg.connect(live, autocommit=True) as db:
        db.execute("comment on column quality_workerhealth.duration_ms is 'goes with it'")
    draft = drafted(stack, supabase, live)
    assert draft.statements == []
    assert [difference.fact for difference in draft.by_hand] == [
        ("column", "data_agg_state.new_column"),
        ("column", "quality_workerhealth.duration_ms"),
        ("table", "data_agg_state"),
    ]
    text = write_migration("edited", draft, supabase / "migrations").read_text(encoding="utf-8")
    assert (
        "-- To be written here by hand, so that it may be repeated:\n--   column data_agg_state.new_column: is new\n"
        in text
    )


@pytest.mark.parametrize("topic", ["", "Upper", "fn_agg_start", "with space", "../up", "a__b"])
def test_a_topic_that_is_none_writes_nothing(topic: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no topic"):
        write_migration(topic, Draft(statements=["select 1"]), tmp_path)
    assert list(tmp_path.iterdir()) == []
