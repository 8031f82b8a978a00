"""`migrate` and `partition` through a transaction pooler: locks end with a transaction; what cannot be is refused."""

import concurrent.futures
import threading
import time
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.database.migrate import Migration, MigrationError, migrate, migrations
from agg_pipeline.database.partitioning import partition
from agg_pipeline_tests.pooler.conftest import Pooled, run
from agg_pipeline_tests.pooler.pgbouncer import leaves_nothing, pgbouncer
from agg_pipeline_tests.sql.helpers import rows, scalar


@pytest.mark.parametrize("pool_size", [1, 3])
def test_two_at_once_take_turns_file_by_file(empty: Pooled, pool_size: int) -> None:
    """Each file is applied by one of them, and both return when all are applied."""
    applied: list[str] = []
    with (
        pgbouncer(empty.direct, default_pool_size=pool_size) as url,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        patient = f"{url}&options=-c%20lock_timeout%3D15s"  # a lock that stays in a session is an error, not a wait
        done = [pool.submit(migrate, patient, on_apply=lambda m: applied.append(m.version)) for _ in range(2)]
        assert sum(len(one.result(timeout=60)) for one in done) == len(migrations())
        with psycopg.connect(url, prepare_threshold=None) as db:
            held = scalar(db, "select count(*) from pg_locks where locktype = 'advisory'")
            assert held == 0, "in any session of the pool"
            recorded = [row["version"] for row in rows(db, "select version from supabase_migrations.schema_migrations")]
    assert applied == sorted(applied) == sorted(recorded) == [m.version for m in migrations()]


def test_a_file_that_another_one_has_applied_meanwhile_is_left_out(empty: Pooled, tmp_path: Path) -> None:
    """The record is read again under the lock: here the other one comes between the first file and the second."""
    for n in (1, 2, 3):
        (tmp_path / f"{n}_table.sql").write_text(f"create table public.t{n} ();")
    begun = threading.Event()

    def other_first(migration: Migration) -> None:
        """In the transaction of the first file: the other one now waits for the lock, and gets it next."""
        if migration.version == "1":
            begun.set()
            deadline = time.monotonic() + 20
            while not _is_waited_for(empty.direct):
                assert time.monotonic() < deadline
                time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def wait_and_migrate() -> list[Migration]:
            begun.wait(20)
            return migrate(empty.direct, folder=tmp_path)

        other = pool.submit(wait_and_migrate)
        mine = migrate(empty.direct, folder=tmp_path, on_apply=other_first)
        theirs = other.result(timeout=60)
    assert sorted(m.version for m in mine + theirs) == ["1", "2", "3"]
    assert mine[0].version == "1"


def _is_waited_for(dsn: str) -> bool:
    with psycopg.connect(dsn) as db:
        return bool(scalar(db, "select exists (select from pg_locks where locktype = 'advisory' and not granted)"))


def test_a_file_that_fails_leaves_nothing_in_the_session(empty: Pooled, tmp_path: Path) -> None:
    (tmp_path / "1_broken.sql").write_text("set local statement_timeout = 7000; create table t (); select 1 / 0;")
    with leaves_nothing(empty.url), pytest.raises(MigrationError, match=r"1_broken\.sql failed: 22012 .*changed not"):
        migrate(empty.url, folder=tmp_path)


@pytest.mark.parametrize("command", [["migrate"], ["migrate", "--again"], ["partition"], ["doctor"]], ids=" ".join)
def test_a_pooler_that_allows_no_transactions_is_refused_with_the_port_to_use(
    empty: Pooled, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pgbouncer(empty.direct, pool_mode="statement") as url:
        monkeypatch.setenv("SUPABASE_DB_URL", url)
        done = run(*command)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
    assert "port 5432" in done.stderr
    assert "statement pooling mode" in done.stderr


@pytest.fixture
def hurried(empty: Pooled) -> Pooled:
    """A project whose statements may take 0.5 s."""
    migrate(empty.direct)
    with psycopg.connect(empty.direct, autocommit=True) as db:
        db.execute("alter database pooled_empty set statement_timeout = '500ms'")
    return empty


def test_an_index_that_takes_longer_than_the_role_may_names_the_port_and_the_setting(hurried: Pooled) -> None:
    """`create index concurrently` runs in no transaction, so that its timeout is the session's."""
    unlimited = "options=-c%20statement_timeout%3D0"
    url = psycopg.conninfo.conninfo_to_dict(hurried.direct)
    session = f"postgresql://{url['user']}:{url['password']}@{url['host']}:{url['port']}/{url['dbname']}?{unlimited}"
    with pgbouncer(hurried.direct) as pooled, psycopg.connect(hurried.direct) as busy:
        busy.execute("lock table data_bars in row exclusive mode")  # the index waits for this transaction
        with pytest.raises(MigrationError, match=r"data_bars was not partitioned: 57014 .*5432.*timeout%3D0"):
            partition(pooled)
        with pytest.raises(MigrationError, match=r"unsupported startup parameter.* 5432"):
            partition(f"{pooled}&{unlimited}")
        release = threading.Timer(1, busy.commit)
        release.start()
        assert partition(session) == ["data_bars", "derived_data_bars"], "longer than 0.5 s"
        release.join()
