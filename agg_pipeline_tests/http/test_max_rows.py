"""PostgREST with db-max-rows = 1000, as Supabase has it: 1,100 of anything come whole over each of our readers."""

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator, Sized

import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.models.base import Task
from agg_pipeline.database.models.tasks import Finish, Lease
from agg_pipeline.database.transport import open_transport
from agg_pipeline.database.transport.postgres import PostgresTransport
from agg_pipeline.database.transport.rest import RestTransport
from agg_pipeline.doctor import rest
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.http.failing import another_api
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import at, fresh_database, scalar

MANY = 1100
MAX_ROWS = 1000
BEGIN, END = at("2026-01-05T00:00"), at("2026-01-05T00:00") + dt.timedelta(minutes=2 * MANY)
NOW = at("2026-01-07T00:00")
FIRST = Task(symbol="S0001", timeframe="5m")

# S0001 has every second minute, so that each gap is a run of its own.
FILL = f"""
insert into core_asset_registry_all (canonical_symbol, base_timeframe, active)
select 'S' || lpad(n::text, 4, '0'), '1m', true from generate_series(1, {MANY}) n;
select sync_agg_state_from_registry('PROD', '2026-01-05Z');
delete from data_agg_state where timeframe not in ('5m', '1d');
delete from data_agg_state where timeframe = '1d' and canonical_symbol <> 'S0001';
update core_asset_registry_all set asset_class = 'fx', trading_calendar = '24x7';
insert into data_bars (canonical_symbol, timeframe, source, ts_utc, open, high, low, close, vol)
select 'S0001', '1m', 'test', '2026-01-05Z'::timestamptz + n * interval '2 minutes', 1, 2, 1, 2, 5 from generate_series(0, {MANY} - 1) n;
insert into derived_data_bars (canonical_symbol, timeframe, source, ts_utc, open, high, low, close, vol, quality_score)
select canonical_symbol, '5m', 'test', '2026-01-05Z', 1, 2, 1, 2, 5, 2 from core_asset_registry_all;
insert into derived_data_bars (canonical_symbol, timeframe, source, ts_utc, open, high, low, close, vol, quality_score)
select 'S0001', '1d', 'test', '2022-01-01Z'::timestamptz + n * interval '1 day', 1, 2, 1, 2, 5, 2 from generate_series(1, {MANY}) n;
insert into derived_data_bars (canonical_symbol, timeframe, source, ts_utc, open, high, low, close, vol, quality_score, revision, deleted_at)
select 'S0001', '5m', 'test', '2026-01-05T10:00Z', 1, 2, 1, 2, n, 2, n, now() from generate_series(1, {MANY}) n;
insert into ops_runlog (run_id, job_name, trigger, env_name) select gen_random_uuid(), 'agg-master', 'cron', 'PROD' from generate_series(1, {MANY});
delete from agg_dirty_ranges;
"""  # noqa: E501 - a table of rows


@pytest.fixture(scope="module")
def database(stack: Stack) -> Iterator[str]:
    with fresh_database(stack.dsn, "many_rows") as dsn:
        migrate(dsn)
        with psycopg.connect(dsn, autocommit=True) as db:
            db.execute(FILL.encode())
        yield dsn


@pytest.fixture(scope="module")
def transport(stack: Stack, database: str) -> Iterator[RestTransport]:
    with (
        another_api(dataclasses.replace(stack, dsn=database), db_max_rows=str(MAX_ROWS)) as (url, _),
        contextlib.closing(open_transport(url, stack.service_role_key, rest_path="/")) as opened,
    ):
        assert isinstance(opened, RestTransport)
        yield opened


@pytest.fixture(scope="module")
def over_rest(transport: RestTransport) -> AggGateway:
    return AggGateway(transport)


def test_the_api_cuts_without_a_word(transport: RestTransport) -> None:
    """What the others are about: status 200, and a hundred rows are not there."""
    assert len(transport.get("core_asset_registry_all")) == MAX_ROWS
    assert len(transport.get("core_asset_registry_all", limit="5000")) == MAX_ROWS
    ranged = {"p_symbol": "S0001", "p_tf": "5m", "p_from_utc": BEGIN.isoformat(), "p_to_utc": END.isoformat()}
    cut = transport.call("agg_gaps", ranged)
    assert isinstance(cut, list)
    assert len(cut) == MAX_ROWS


READERS: dict[str, Callable[[AggGateway], Sized]] = {
    "health": lambda gateway: gateway.health(),
    "bar_summary": lambda gateway: gateway.bar_summary(),
    "bars_by_day": lambda gateway: gateway.bars_by_day(["S0001"], at("2022-01-01T00:00"), NOW),
    "bars_page, raw": lambda gateway: gateway.bars_page("S0001", BEGIN, END).raw["ts_us"],
    "bars_page, derived": lambda gateway: gateway.bars_page("S0001", at("2022-01-01T00:00"), END).derived["ts_us"],
    "gaps": lambda gateway: gateway.gaps(FIRST, BEGIN, END).gaps,
    "explain": lambda gateway: gateway.explain(FIRST, at("2026-01-05T10:00")).revisions,
    "calendars": lambda gateway: gateway.calendars().proposals,
    "open_runs": lambda gateway: gateway.open_runs("PROD"),
    "recent_runs": lambda gateway: gateway.recent_runs("PROD", limit=MANY),
}


@pytest.mark.parametrize("reader", sampled(list(READERS), ["health", "gaps", "bars_page, raw"]))
def test_a_reader_gets_all(over_rest: AggGateway, database: str, reader: str) -> None:
    found = READERS[reader](over_rest)
    assert len(found) >= MANY
    with contextlib.closing(AggGateway(PostgresTransport(database, timeout_s=30))) as direct:
        assert len(found) == len(READERS[reader](direct))


def test_bad_cursors_come_whole(over_rest: AggGateway, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("update data_agg_state set last_agg_bar_ts_utc = '2026-01-05T00:01Z' where timeframe = '5m'")
        assert len(over_rest.repair_cursors(dry_run=True, now=NOW)) >= MANY
        db.execute("update data_agg_state set last_agg_bar_ts_utc = null")


def test_the_results_of_a_batch_come_whole(over_rest: AggGateway) -> None:
    """A lease, a catch-up and an end for each of 1,100 tasks, in order."""
    tasks = [Task(symbol=health.symbol, timeframe="5m") for health in over_rest.health() if health.timeframe == "5m"]
    started = over_rest.start(tasks, now=NOW, owner="test", lease_seconds=900)
    assert [one.symbol for one in started] == [task.symbol for task in tasks]
    leases = [Lease(symbol=s.symbol, timeframe=s.timeframe, lease_token=s.lease_token) for s in started]
    caught = over_rest.catch_up(leases, now=NOW, max_windows=1, version=1)
    assert [one.symbol for one in caught] == [task.symbol for task in tasks]
    ends = [Finish(symbol=it.symbol, timeframe=it.timeframe, lease_token=it.lease_token, success=True) for it in leases]
    finished = over_rest.finish(ends, now=NOW, hard_limit=3)
    assert [(one.symbol, one.success) for one in finished] == [(task.symbol, True) for task in tasks]


def test_doctor_reads_tables_in_pages(transport: RestTransport, database: str) -> None:
    facts = rest.read_facts(transport)
    assert [asset.symbol for asset in facts.assets] == [f"S{n:04d}" for n in range(1, MANY + 1)]
    with psycopg.connect(database) as db:
        assert len(facts.tasks) == scalar(db, "select count(*) from data_agg_state") == MANY + 1


def test_every_function_that_returns_a_set_is_known(database: str) -> None:
    """A new one would be cut over REST: let it return one jsonb, or read it in pages and name it in reference.md."""
    with psycopg.connect(database) as db:
        sets = scalar(
            db,
            "select array_agg(proname::text order by proname) from pg_proc where proretset and proname !~ '^_' "
            "and pronamespace = 'public'::regnamespace and has_function_privilege('service_role', oid, 'execute')",
        )
    assert sets == ["agg_gaps", "agg_get_due_tasks", "bars_as_of"]


def test_doctor_reads_tables_whose_api_gives_less_than_a_page(stack: Stack, database: str) -> None:
    """A page of fewer rows than were asked for is not the last one."""
    with psycopg.connect(database, autocommit=True) as db:
        db.execute("delete from data_agg_state")  # each task costs two more requests
    api = another_api(dataclasses.replace(stack, dsn=database), db_max_rows="300")
    with api as (url, _), contextlib.closing(open_transport(url, stack.service_role_key, rest_path="/")) as opened:
        assert isinstance(opened, RestTransport)
        assert len(rest.read_facts(opened).assets) == MANY
