"""What the checks say on the assets' pages: through real ticks and backfills, of sound bars and of broken ones."""

import datetime as dt
import uuid
from collections.abc import Iterator
from itertools import pairwise

import dagster as dg
import psycopg
import pytest

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.market.timeframes import Timeframe
from agg_pipeline.orchestration.asset_keys import bars_key
from agg_pipeline.orchestration.backfill_inspection import inspect_range, ranges_to_check
from agg_pipeline_tests.dagster.test_backfill import BEGIN, TIMEFRAMES, backfill, three_days
from agg_pipeline_tests.dagster.test_job import four_hours, run

__all__ = ["four_hours", "three_days"]

DAY = dt.timedelta(days=1)
DERIVED = {f"bars_{timeframe}" for timeframe in TIMEFRAMES}
Told = dict[tuple[str, str], dg.AssetCheckEvaluation]


def told(result: dg.ExecuteInProcessResult) -> Told:
    """Evaluations by asset and check."""
    found = result.get_asset_check_evaluations()
    by_key = {(one.asset_key.path[-1], one.check_name): one for one in found}
    assert len(by_key) == len(found), "each check answers once"
    return by_key


def red(result: dg.ExecuteInProcessResult) -> set[tuple[str, str]]:
    """Checks that are not passed; of health, which judges the feed as of now, only what is an error."""
    warned = {("bars_5m", "health"): dg.AssetCheckSeverity.WARN}
    return {key for key, one in told(result).items() if not one.passed and warned.get(key) != one.severity}


@pytest.fixture
def broken(clean: psycopg.Connection) -> Iterator[None]:
    """A fault of the pipeline: one bar comes out of the database's hands with a high that no source bar has."""
    clean.execute(
        """create function break_a_bar() returns trigger language plpgsql as $$ begin new.high := new.high + 7;
             return new; end $$;
           create trigger break_a_bar before insert on derived_data_bars for each row
             when (new.canonical_symbol = 'BBB' and new.timeframe = '15m' and new.ts_utc = '2026-01-05T03:30Z')
             execute function break_a_bar()"""
    )
    yield
    clean.execute("drop function break_a_bar cascade")


def test_a_tick_checks_a_sample_and_the_lag_of_all_its_tasks(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    result = run(defs, instance)
    assert red(result) == set()
    found = told(result)
    assert "waiting for source: no 1m bar since 2026-01-05 " in str(found["bars_5m", "health"].description)
    built = {"bars_5m", "bars_15m", "bars_1h", "bars_4h"}
    assert {asset for asset, check in found if check == "matches_recomputation"} == built
    assert {asset for asset, check in found if check == "parents_agree"} == built - {"bars_5m"}
    assert ("bars_raw", "prices_sane") in found
    assert found["bars_4h", "matches_recomputation"].metadata["judged"].value == 1
    said = str(found["bars_5m", "no_gaps"].metadata["looked at"].value)
    assert said.endswith(" from 2026-01-05 00:00 to 2026-01-05 04:00 UTC")
    assert found["bars_5m", "lag"].metadata["judged"].value == 3
    silent = found["bars_5m", "health"]
    assert (silent.passed, silent.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "waiting for source: no 1m bar since 2026-01-05 03:59" in str(silent.description)


@pytest.mark.nightly
def test_samples_of_several_ticks_reach_every_symbol(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    looked_at = set()
    for n in range(6):
        now = BEGIN + dt.timedelta(minutes=5 * n + 6)
        result = run(defs, instance, run_id=str(uuid.UUID(int=n)), timeframes=["5m"], now_utc=now.isoformat())
        looked_at.add(str(told(result)["bars_5m", "prices_sane"].metadata["looked at"].value).split()[2])
    assert looked_at == {"AAA", "BBB", "CCC"}


@pytest.mark.usefixtures("broken")
def test_a_broken_bar_is_red_in_the_tick_that_wrote_it_and_named(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    result = run(defs, instance, symbols=["BBB"])
    assert result.success, "the bars stand, right or wrong; the check is what is red"
    assert red(result) == {("bars_15m", "matches_recomputation"), ("bars_15m", "parents_agree")}
    one = told(result)["bars_15m", "matches_recomputation"]
    assert one.severity == dg.AssetCheckSeverity.ERROR
    assert one.description
    assert one.description.startswith("1 of 16 wrong. BBB 15m 2026-01-05 03:30 UTC: high is ")
    assert "| error | BBB | 15m | 2026-01-05 03:30 | high is " in str(one.metadata["findings"].value)


@pytest.mark.usefixtures("broken")
def test_a_broken_bar_is_red_in_the_backfill_that_wrote_it_and_to_whoever_asks_later(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    result = backfill(defs, instance, "2026-01-05", "2026-01-07")
    wrong = {("bars_15m", "matches_recomputation"), ("bars_15m", "parents_agree")}
    assert red(result) == wrong
    one = told(result)["bars_15m", "matches_recomputation"]
    assert "BBB 15m 2026-01-05 03:30 UTC: high is " in str(one.description)
    assert one.metadata["looked at"].value == "AAA, BBB, all days from 2026-01-05 to 2026-01-07"
    assert {asset for asset, _ in told(result)} == DERIVED | {"bars_raw"}

    keys = [dg.AssetCheckKey(bars_key("15m"), "matches_recomputation")]
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection=set(keys)
    )
    later = job.execute_in_process(instance=instance)
    assert red(later) == {("bars_15m", "matches_recomputation")}
    assert len(told(later)) == 1


def test_looking_that_fails_fails_no_run(
    defs: dg.Definitions, instance: dg.DagsterInstance, four_hours: psycopg.Connection
) -> None:
    page, by_day = "agg_bars_page(text, timestamptz, timestamptz)", "agg_bars_by_day(text[], timestamptz, timestamptz)"
    try:
        four_hours.execute(f"revoke execute on function {page}, {by_day} from service_role")
        result = run(defs, instance)
        assert result.success
        told_of = [e.user_message for e in instance.all_logs(result.run_id) if e.level == 30]
        assert [text.partition(" could")[0] for text in told_of] == ["Lag and quality"]
        four_hours.execute(f"grant execute on function {by_day} to service_role")
        four_hours.execute("delete from derived_data_bars")
        filled = backfill(defs, instance, "2026-01-05", "2026-01-05")
        assert filled.success
    finally:
        four_hours.execute(f"grant execute on function {page}, {by_day} to service_role")


def test_a_long_range_is_read_in_part_and_says_so(one_gateway: AggGateway, clean: psycopg.Connection) -> None:
    one_gateway.register_asset("AAA", start=BEGIN, base_timeframe="1m")
    found = inspect_range(one_gateway, ["AAA"], list(map(Timeframe, TIMEFRAMES)), BEGIN, BEGIN + 365 * DAY)
    said = str(found.evaluations[0].metadata["looked at"].value)
    assert said == "AAA, a sample of the days from 2026-01-05 to 2027-01-04: the last 20, and 20 spread over the others"


@pytest.mark.parametrize(
    ("days", "symbols", "read"),
    [
        (92, 1, 92),
        (93, 1, 40),
        (365, 1, 40),
        (30, 3, 30),
        (31, 3, 13),
        (3650, 7, 5),
        (365, 30, 1),
        (2, 46, 2),
        (1, 99, 1),
    ],
)
def test_what_is_read_lies_apart_within_the_range_and_ends_with_it(days: int, symbols: int, read: int) -> None:
    parts = ranges_to_check(BEGIN, BEGIN + days * DAY, symbols)
    assert sum((end - begin) // DAY for begin, end in parts) == read
    assert parts[-1][1] == BEGIN + days * DAY
    assert parts[0][0] == BEGIN or len(parts) == 1
    assert all(before[1] <= after[0] for before, after in pairwise(parts))


def test_a_check_keeps_its_colour_when_a_later_tick_does_not_evaluate_it(
    defs: dg.Definitions, instance: dg.DagsterInstance, three_days: psycopg.Connection
) -> None:
    """Dagster shows evaluations of the run that materialized the asset last; of another run it says "not evaluated"."""
    backfill(defs, instance, "2026-01-05", "2026-01-05")
    key = dg.AssetCheckKey(bars_key("5m"), "coverage")
    first = instance.get_latest_asset_check_evaluation_record(key)
    assert first is not None
    three_days.execute(
        "update data_bars set close = close + 0.001 where ts_utc in ('2026-01-06 12:00Z', '2026-01-07 23:59Z')"
    )
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).isoformat()
    result = run(defs, instance, now_utc=later, symbols=["AAA"], max_windows=1)  # a backlog stays: nothing is sampled
    assert "bars_5m" in {event.asset_key.path[-1] for event in materializations(result)}
    assert ("bars_5m", "coverage") in told(result)
    again = instance.get_latest_asset_check_evaluation_record(key)
    assert again is not None
    assert again.run_id == result.run_id
    assert again.evaluation is not None
    assert first.evaluation is not None
    assert (again.evaluation.passed, again.evaluation.description) == (
        first.evaluation.passed, first.evaluation.description)  # fmt: skip


def materializations(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    return [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
    ]
