"""What one symbol brings costs that symbol: each plant in each phase, with nineteen symbols beside it."""

from collections.abc import Callable, Mapping

import psycopg
import pytest
from psycopg.types.json import Jsonb

from agg_pipeline_tests.faults.table import PLANTS
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import (
    Row,
    alter_task,
    at,
    batch,
    edited_schema,
    put,
    refused,
    register,
    rows,
    scalar,
    settle,
    state,
    task,
    tick,
)

Matrix = Callable[[str, Mapping[tuple[str, str], Row]], None]

BAD = "S07"
GOOD = [f"S{n:02d}" for n in range(20) if n != 7]
NOON = "2026-01-05T12:00"
LATER = "12:20"  # past the deadline of all windows until noon


def raising(table: str, event: str, condition: str = "true") -> str:
    """A user's trigger that raises for one symbol."""
    return f"""
        create function public.of_the_user() returns trigger language plpgsql as $$
        begin
          if new.canonical_symbol = '{BAD}' then raise exception 'the user forbids it'; end if;
          return new;
        end $$;
        create trigger of_the_user before {event} on public.{table} for each row when ({condition})
          execute function public.of_the_user()"""


UNDO_TRIGGER = "drop function public.of_the_user() cascade"
CURSOR = f"update data_agg_state set last_agg_bar_ts_utc = %s where canonical_symbol = '{BAD}' and timeframe = '5m'"
UNDO_CURSOR = CURSOR.replace("%s", "null")

LIVE = "where b.deleted_at is null"

# What is planted, and how it is taken away; before the tasks are created, or after the first bars were built.
BEFORE = {
    "a trigger on data_agg_state, insert": (raising("data_agg_state", "insert"), UNDO_TRIGGER),
    "a trigger on derived_data_bars": (raising("derived_data_bars", "insert or update"), UNDO_TRIGGER),
}
AFTER = {
    "a trigger on data_agg_state, update": (raising("data_agg_state", "update"), UNDO_TRIGGER),
    "a trigger on data_agg_state, when the cursor moves": (
        raising("data_agg_state", "update", "old.last_agg_bar_ts_utc is distinct from new.last_agg_bar_ts_utc"),
        UNDO_TRIGGER,
    ),
    "a trigger on data_agg_state, when a run ends": (
        raising("data_agg_state", "update", "old.status = 'running' and new.status = 'idle'"),
        UNDO_TRIGGER,
    ),
    "raw rows that cannot be read": (
        edited_schema(
            "source_bars",
            LIVE,
            f"""{LIVE}
           and (b.canonical_symbol <> '{BAD}' or 1 / (b.ts_utc < '2026-01-05 10:00Z')::integer > 0)""",
        ),
        edited_schema("source_bars", LIVE, LIVE),
    ),
    "a trigger on derived_data_bars": (raising("derived_data_bars", "insert or update"), UNDO_TRIGGER),
    "a check constraint on derived_data_bars": (
        f"""alter table derived_data_bars add constraint of_the_user
            check (canonical_symbol <> '{BAD}' or ts_utc < '2026-01-05 10:00Z') not valid""",
        "alter table derived_data_bars drop constraint of_the_user",
    ),
    "a cursor at infinity": (CURSOR.replace("%s", "'infinity'"), UNDO_CURSOR),
    "a cursor at -infinity": (CURSOR.replace("%s", "'-infinity'"), UNDO_CURSOR),
    "a cursor of the year 5000 BC": (CURSOR.replace("%s", "'4713-01-01 00:00Z BC'"), UNDO_CURSOR),
    "a cursor of the year 294276": (CURSOR.replace("%s", "'294276-12-31 23:59Z'"), UNDO_CURSOR),
    "a next run at infinity": (
        f"update data_agg_state set next_run_at = 'infinity' where canonical_symbol = '{BAD}' and timeframe = '5m'",
        f"update data_agg_state set next_run_at = null where canonical_symbol = '{BAD}'",
    ),
    "a start at infinity": (
        f"update data_agg_state set agg_start_utc = 'infinity' where canonical_symbol = '{BAD}'",
        f"update data_agg_state set agg_start_utc = '2026-01-05Z' where canonical_symbol = '{BAD}'",
    ),
    "trade counts that overflow their sum": (
        f"""update data_bars set trade_count = 2147483647
             where canonical_symbol = '{BAD}' and ts_utc >= '2026-01-05 10:00Z'""",
        f"update data_bars set trade_count = 3 where canonical_symbol = '{BAD}'",
    ),
}

SAMPLE = ["a cursor at infinity", "raw rows that cannot be read"]


@pytest.fixture
def symbols(db: psycopg.Connection) -> psycopg.Connection:
    """Twenty symbols with bars from 08:00 to 10:00, none of them built."""
    register(db, BAD, *GOOD)
    for symbol in (BAD, *GOOD):
        put(db, symbol, "08:00", 120)
    return db


def broken_tick(db: psycopg.Connection, now: str) -> dict[tuple[str, str], Row]:
    """A tick whose tasks may fail, as the package does it: the error of each task that failed."""
    answer = scalar(db, "select agg_due_tasks('PROD', %s, null)", [at(now)])
    errors = {key(one): one["error"] for one in answer["failed"]}
    tasks = [task(*key(one)) for one in answer["tasks"]]
    leases = batch(db, "agg_start_batch", tasks, p_now_utc=at(now), p_owner="run")
    errors |= {key(one): one["error"] for one in leases if "error" in one}
    held = [one for one in leases if "lease_token" in one]
    built = batch(db, "catchup_aggregation_batch", held, p_now_utc=at(now), p_max_windows=1000)
    errors |= {key(one): one["error"] for one in built if "error" in one}
    outcomes = [
        task(*key(lease), lease_token=lease["lease_token"], success=key(lease) not in errors, fail_kind="hard",
             error=errors.get(key(lease), {}).get("message"))
        for lease in held
    ]  # fmt: skip
    finished = batch(db, "agg_finish_batch", outcomes, p_now_utc=at(now))
    return errors | {key(one): one["error"] for one in finished if "error" in one}


def key(row: Mapping[str, str]) -> tuple[str, str]:
    return row["canonical_symbol"], row["timeframe"]


def health(db: psycopg.Connection, now: str) -> dict[tuple[str, str], Row]:
    return {key(row): row for row in scalar(db, "select agg_health(null, %s)", [at(now)])}


@pytest.fixture
def matrix(request: pytest.FixtureRequest) -> Matrix:
    """Notes for docs/reliability.md in which phases a plant was met."""
    rows_of_page = request.config.stash.setdefault(PLANTS, {})

    def note(plant: str, errors: Mapping[tuple[str, str], Row]) -> None:
        met = rows_of_page.setdefault(plant, {})
        met |= {error["message"].partition(" of ")[0]: error["sqlstate"] for error in errors.values()}

    return note


def assert_only_it_failed(db: psycopg.Connection, errors: Mapping[tuple[str, str], Row], now: str) -> None:
    assert errors, "the plant did nothing"
    assert {symbol for symbol, _ in errors} == {BAD}
    for (symbol, timeframe), error in errors.items():
        assert f" of {symbol}/{timeframe} " in error["message"] or f"sync of {symbol} " in error["message"]
        assert len(error["sqlstate"]) == 5
        assert error["hint"]
    seen = health(db, now)
    for symbol in GOOD:
        states = {row["state"] for (s, _), row in seen.items() if s == symbol}
        assert states <= {"current", "waiting for source", "waiting for data"}, symbol
    assert {seen[one]["state"] for one in errors} == {"failed"}
    for one, error in errors.items():
        assert error["message"].rpartition(": ")[2] in seen[one]["last_error"]


def assert_good_ones_equal_the_oracle(db: psycopg.Connection, bars: int) -> None:
    counts = assert_equals_oracle(db, GOOD)
    assert [counts[symbol, "5m"] for symbol in GOOD] == [bars] * 19


@pytest.mark.parametrize("plant", sampled(list(BEFORE), ["a trigger on data_agg_state, insert"]))
def test_a_plant_that_is_there_first_costs_its_symbol_only(db: psycopg.Connection, matrix: Matrix, plant: str) -> None:
    sow, weed = BEFORE[plant]
    db.execute("insert into core_asset_registry_all (canonical_symbol) select unnest(%s::text[])", [[BAD, *GOOD]])
    for symbol in (BAD, *GOOD):
        put(db, symbol, "08:00", 120)
    db.execute(sow)  # type: ignore[arg-type]
    errors = broken_tick(db, LATER)
    matrix(plant, errors)
    assert_only_it_failed(db, errors, LATER)
    assert_good_ones_equal_the_oracle(db, 24)
    db.execute(weed)  # type: ignore[arg-type]
    db.execute("update data_agg_state set next_run_at = null, status = 'idle'")
    settle(db, "23:00")
    assert assert_equals_oracle(db)[BAD, "5m"] == 24
    assert rows(db, "select * from agg_task_faults") == []


@pytest.mark.parametrize("plant", sampled(list(AFTER), SAMPLE))
def test_a_plant_costs_its_symbol_only(symbols: psycopg.Connection, matrix: Matrix, plant: str) -> None:
    db = symbols
    sow, weed = AFTER[plant]
    tick(db, "10:00:30")
    for symbol in (BAD, *GOOD):
        put(db, symbol, "10:00", 60)
    db.execute(sow)  # type: ignore[arg-type]
    for now in (LATER, "13:30"):
        errors = broken_tick(db, now)
        matrix(plant, errors)
        assert_only_it_failed(db, errors, now)
        assert_good_ones_equal_the_oracle(db, 36)
    seen = [row for row in health(db, "13:30").values() if "health of" in (row["reason"] or "")]
    matrix(plant, {key(row): {"message": "health of", "sqlstate": row["reason"].split("(")[1][:5]} for row in seen})

    db.execute(weed)  # type: ignore[arg-type]
    db.execute("update data_agg_state set next_run_at = null, status = 'idle'")
    settle(db, "23:00")
    assert assert_equals_oracle(db)[BAD, "5m"] == 36
    assert rows(db, "select * from agg_task_faults") == []
    assert health(db, "23:00")[BAD, "5m"]["hard_fail_streak"] == 0


def test_a_lease_that_cannot_be_taken_back_keeps_no_other(symbols: psycopg.Connection, matrix: Matrix) -> None:
    db = symbols
    tasks = [task(symbol, "5m") for symbol in (BAD, *GOOD)]
    batch(db, "agg_start_batch", tasks, p_now_utc=at("10:00"), p_owner="dead", p_lease_seconds=60)
    db.execute(raising("data_agg_state", "update"))  # type: ignore[arg-type]
    answer = scalar(db, "select agg_due_tasks('PROD', %s, null)", [at("11:00")])
    assert [(key(one), one["error"]["sqlstate"]) for one in answer["failed"]] == [((BAD, "5m"), "P0001")]
    matrix("a trigger on data_agg_state, update", {key(one): one["error"] for one in answer["failed"]})
    assert answer["failed"][0]["error"]["message"] == f"recovery of {BAD}/5m failed: the user forbids it"
    assert {state(db, symbol, "5m")["status"] for symbol in GOOD} == {"idle"}
    assert health(db, "11:00")[BAD, "5m"]["state"] == "failed"


@pytest.mark.parametrize(
    "time", sampled(["infinity", "-infinity", "4713-01-01 00:00Z BC", "294276-12-31 23:59Z"], ["-infinity"])
)
def test_a_row_of_no_century_harms_no_statement_of_its_ingester(symbols: psycopg.Connection, time: str) -> None:
    db = symbols
    for statement in (
        "insert into data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)"
        " select s, '1m', '2026-01-05 10:00Z'::timestamptz + m * interval '1 minute', 1, 1, 1, 1, 't'"
        "   from unnest(%(good)s::text[]) s, generate_series(0, 4) m"
        " union all select %(bad)s, '1m', %(time)s, 1, 1, 1, 1, 't'",
        "update data_bars set close = 2, high = 2 where ts_utc >= '2026-01-05 10:00Z' or ts_utc = %(time)s",
        "delete from data_bars where ts_utc >= '2026-01-05 10:00Z' or ts_utc = %(time)s",
    ):
        assert db.execute(statement, {"bad": BAD, "good": GOOD, "time": time}).rowcount == 19 * 5 + 1
        settle(db, NOON)
        assert_good_ones_equal_the_oracle(db, 24 if statement.startswith("delete") else 25)
    assert assert_equals_oracle(db)[BAD, "5m"] == 24


def test_two_volumes_that_add_up_to_infinity_are_out_of_range(symbols: psycopg.Connection) -> None:
    db = symbols
    put(db, BAD, "08:00", 2, vol=1e308)
    settle(db, NOON)
    counts = assert_equals_oracle(db)
    assert counts[BAD, "5m"] == 24
    assert "failed" not in {row["state"] for row in health(db, "10:05").values()}
    (window,) = rows(
        db,
        "select raw from derived_data_bars where canonical_symbol = %s and timeframe = '5m' order by ts_utc limit 1",
        [BAD],
    )  # fmt: skip
    assert {one["reason"] for one in window["raw"]["rejected"]} == {"out of range"}


def test_a_load_costs_the_symbol_that_the_database_refuses(symbols: psycopg.Connection, matrix: Matrix) -> None:
    db = symbols
    db.execute(raising("data_bars", "insert or update"))  # type: ignore[arg-type]
    bars = [{"canonical_symbol": s, "ts_utc": "2026-01-05T10:00Z", "open": 1, "high": 1, "low": 1, "close": 1, "vol": 1}
            for s in (BAD, *GOOD)]  # fmt: skip
    answer = scalar(db, "select agg_load_bars(%s)", [Jsonb(bars)])
    (fault,) = answer.pop("failed")
    matrix("a trigger on data_bars", {(BAD, "1m"): fault["error"]})
    assert answer == {"inserted": 19, "updated": 0, "unchanged": 0, "failed_bars": 1}
    assert (fault["canonical_symbol"], fault["error"]["message"]) == (BAD, f"load of {BAD} failed: the user forbids it")
    with refused(db, "P0001", "the user forbids it"):
        scalar(db, "select agg_load_bars(%s)", [Jsonb(bars[:1])])


def test_impossible_cursors_are_listed_and_mended(symbols: psycopg.Connection) -> None:
    db = symbols
    settle(db, NOON)
    for timeframe, time in (("5m", "infinity"), ("15m", "-infinity"), ("1h", "294276-12-31 23:59Z")):
        alter_task(db, BAD, timeframe, last_agg_bar_ts_utc=time)
    mend = "select agg_mend_cursors(p_dry_run => %s, p_now_utc => %s)"
    found = scalar(db, mend, [False, at(NOON)])
    assert [(key(one), one["kind"]) for one in found] == [
        ((BAD, timeframe), "impossible") for timeframe in ("15m", "1h", "5m")
    ]
    assert scalar(db, mend, [True, at(NOON)]) == []
    settle(db, NOON)
    assert_equals_oracle(db)


def test_faults_of_another_environment_stay(symbols: psycopg.Connection) -> None:
    db = symbols
    db.execute("update core_asset_registry_all set test_active = false where canonical_symbol = %s", [BAD])
    alter_task(db, BAD, "5m", last_agg_bar_ts_utc="infinity")
    scalar(db, "select agg_due_tasks('PROD', %s, null)", [at("10:00")])
    scalar(db, "select agg_due_tasks('TEST', %s, null)", [at("10:00")])
    assert [key(row) for row in rows(db, "select * from agg_task_faults")] == [(BAD, "5m")]
    alter_task(db, BAD, "5m", last_agg_bar_ts_utc=None)
    scalar(db, "select agg_due_tasks('PROD', %s, null)", [at("10:00")])
    assert rows(db, "select * from agg_task_faults") == []


def test_who_asks_for_some_tasks_hears_of_their_faults_only(symbols: psycopg.Connection) -> None:
    db = symbols
    alter_task(db, BAD, "5m", last_agg_bar_ts_utc="infinity")
    ask = "select agg_due_tasks('PROD', %s, null, p_symbols => %s, p_timeframes => %s) -> 'failed'"
    assert scalar(db, ask, [at("10:00"), GOOD[:2], None]) == []
    assert scalar(db, ask, [at("10:00"), [BAD], ["1h"]]) == []
    assert [key(one) for one in scalar(db, ask, [at("10:00"), [BAD], None])] == [(BAD, "5m")]


def test_both_forms_of_the_due_tasks_say_the_same(symbols: psycopg.Connection) -> None:
    set_of_rows = rows(
        symbols, "select canonical_symbol, timeframe from agg_get_due_tasks('PROD', %s, 30)", [at("10:00")]
    )
    one_value = scalar(symbols, "select agg_due_tasks('PROD', %s, 30)", [at("10:00")])
    assert one_value["failed"] == []
    assert [key(one) for one in one_value["tasks"]] == [key(row) for row in set_of_rows]
    assert len(set_of_rows) == 30


def test_what_asks_for_one_task_names_it_and_answers_for_all_others(symbols: psycopg.Connection) -> None:
    db = symbols
    settle(db, NOON)
    alter_task(db, BAD, "5m", last_agg_bar_ts_utc="infinity")
    for call in (
        "select count(*) from agg_gaps(%s, '5m', %s, %s)",
        "select agg_find_damage(%s, '5m', %s, %s)",
        "select agg_rebuild_range(%s, '5m', %s, %s)",
    ):
        with refused(db, "AG003", f"reading of {BAD}/5m failed", hint="agg-pipeline repair"):
            scalar(db, call, [BAD, at("08:00"), at("10:00")])
        assert scalar(db, call, [GOOD[0], at("08:00"), at("10:00")]) is not None
    page = scalar(db, "select agg_bars_page(%s, %s, %s)", [BAD, at("08:00"), at("10:00")])
    assert "5m" not in {one["timeframe"] for one in page["tasks"]}
