"""Findings from facts, without a server: impossible cursors, FX assets without an FX calendar."""

import datetime as dt

import pytest

from agg_pipeline.doctor.content import asset_findings, cursor_kind
from agg_pipeline.doctor.facts import Asset, Facts, TaskFacts


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"2026-01-05T{text}+00:00")


def task(cursor: str | None, newest: str | None, *, timeframe: str = "5m", empty: bool = False) -> TaskFacts:
    return TaskFacts(
        symbol="EURUSD", timeframe=timeframe, source_timeframe="1m", base="1m", start=at("06:00"),
        cursor=cursor and at(cursor), status="idle", enabled=True, running_since=None,  # type: ignore[arg-type]
        newest=newest and at(newest), is_empty_at_cursor=empty,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (task(None, "10:03"), None),
        (task("10:00", "10:03"), None),
        (task("10:05", "10:03", empty=True), None),
        (task("10:10", "10:03", empty=True), "future"),
        (task("10:02", "10:03"), "off_grid"),
        (task("08:00", "10:03"), None),
        (task("08:00", "10:03", empty=True), "frozen"),
        (task("10:00", "10:03", empty=True), None),
        (task("06:00", None, empty=True), None),
        (task("06:05", None, empty=True), "future"),
        (task("06:00", "05:00", empty=True), None),
        (task("10:10", "10:03", timeframe="1m", empty=True), None),
        (task("12:00", "10:03", timeframe="1h", empty=True), "future"),
    ],
)
def test_kind_of_a_cursor(facts: TaskFacts, kind: str | None) -> None:
    assert cursor_kind(facts) == kind


def test_a_calendar_is_proposed_for_fx_if_the_database_has_calendars() -> None:
    assets = [
        Asset("EURUSD", "FX", True, "24x7"),
        Asset("USDJPY", "fx", True, "fx_24x5"),
        Asset("BTCUSD", "crypto", True, "24x7"),
    ]

    def found(*columns: str) -> list[str]:
        table = {"core_asset_registry_all": frozenset(columns)}
        return [f.found for f in asset_findings(Facts(table, {}, frozenset(), 1, assets))]

    assert found("asset_class") == []
    assert found("asset_class", "trading_calendar") == [
        "of class fx, but expected to trade at the weekend (24x7): EURUSD"
    ]
