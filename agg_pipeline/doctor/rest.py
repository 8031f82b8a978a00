"""Reads the facts of a project over its REST API. What it does not show is listed in NOT_CHECKED."""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

from agg_pipeline.database.transport.rest import RestTransport
from agg_pipeline.doctor.facts import PREDECESSOR_RPCS, TABLES, Asset, Facts, TaskFacts
from agg_pipeline.errors import GatewayError
from agg_pipeline.market.timeframes import Timeframe

_PAGE = 1000  # rows asked for at a time; an API cuts a longer answer to its db-max-rows without notice
_FIRST_START = dt.datetime(2025, 7, 1, tzinfo=dt.UTC)  # start of the predecessor's tasks without column agg_start_utc
NOT_CHECKED = (
    "which migrations are recorded",
    "grants and row level security",
    "functions, views and triggers that differ from this version",
    "whether the 1h function is that of the predecessor's migration 010",
    "invalid rows",
)


def read_facts(transport: RestTransport) -> Facts:
    """Read the facts of the project at a REST API. Raises GatewayError."""
    description = transport.get("")
    columns = {
        table: frozenset(shape.get("properties", {}))
        for table, shape in description.get("definitions", {}).items()
        if table in TABLES
    }
    functions = {
        path.removeprefix("/rpc/"): [_arguments(methods)]
        for path, methods in description.get("paths", {}).items()
        if path.startswith("/rpc/")
    }
    contract = transport.call("agg_contract", {}) if "agg_contract" in functions else 0
    bases: dict[str, str] = {}
    assets = []
    for row in _rows(transport, columns, "core_asset_registry_all", "canonical_symbol"):
        symbol = row["canonical_symbol"]
        bases[symbol] = row.get("base_timeframe") or ("5m" if row.get("ingest_class") == "B" else "1m")
        is_active = bool(row.get("active") or row.get("test_active"))
        assets.append(Asset(symbol, row.get("asset_class"), is_active, row.get("trading_calendar")))
    tasks = _rows(transport, columns, "data_agg_state", "canonical_symbol,timeframe")
    return Facts(
        columns=columns,
        functions=functions,
        overloaded=frozenset(
            name for name in PREDECESSOR_RPCS if name in functions and _is_overloaded(transport, name)
        ),
        contract=contract if isinstance(contract, int) else 0,
        assets=assets,
        tasks=[_task(transport, row, bases.get(row["canonical_symbol"])) for row in tasks],
        not_checked=NOT_CHECKED,
    )


def _arguments(methods: Any) -> tuple[str, ...]:
    body: dict[str, Any] = next((p for p in methods.get("post", {}).get("parameters", []) if p.get("in") == "body"), {})
    return tuple(body.get("schema", {}).get("properties", {}))


def _is_overloaded(transport: RestTransport, function: str) -> bool:
    """Call it with a value that is valid for no overload, so that no function runs."""
    texts, typed = PREDECESSOR_RPCS[function]
    try:
        transport.call(function, {**dict.fromkeys(texts.split(", "), "?"), typed: "?"})
    except GatewayError as exc:
        return exc.code == "PGRST203"
    return False


def _rows(
    transport: RestTransport, columns: dict[str, frozenset[str]], table: str, order: str
) -> Iterator[dict[str, Any]]:
    """All rows, in pages. A short page is not the last one, for db-max-rows may be below _PAGE; an empty one is."""
    offset = 0
    while table in columns:
        page = transport.get(table, select="*", order=order, limit=str(_PAGE), offset=str(offset))
        if not page:
            return
        yield from page
        offset += len(page)


def _task(transport: RestTransport, row: dict[str, Any], base: str | None) -> TaskFacts:
    cursor, started = _time(row["last_agg_bar_ts_utc"]), _time(row["running_started_at_utc"])
    newest, is_empty = None, True
    if base is not None:
        bars = {"select": "ts_utc", "canonical_symbol": f"eq.{row['canonical_symbol']}", "timeframe": f"eq.{base}"}
        now = dt.datetime.now(dt.UTC).isoformat()
        last = transport.get("data_bars", **bars, ts_utc=f"lte.{now}", order="ts_utc.desc", limit="1")
        newest = _time(last[0]["ts_utc"]) if last else None
        if cursor is not None and row["timeframe"] in list(Timeframe):
            end = cursor + Timeframe(row["timeframe"]).length
            window = f"(ts_utc.gte.{cursor.isoformat()},ts_utc.lt.{end.isoformat()})"
            is_empty = not transport.get("data_bars", **bars, **{"and": window}, limit="1")
    return TaskFacts(
        symbol=row["canonical_symbol"],
        timeframe=row["timeframe"],
        source_timeframe=row["source_timeframe"],
        base=base,
        start=_time(row.get("agg_start_utc")) or _FIRST_START,
        cursor=cursor,
        status=row["status"],
        enabled=row.get("enabled", True),
        running_since=started,
        newest=newest,
        is_empty_at_cursor=is_empty,
        is_possible=all(
            _is_possible(row.get(name)) for name in ("last_agg_bar_ts_utc", "agg_start_utc", "next_run_at")
        ),
    )


def _time(text: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC) if text and _is_possible(text) else None


def _is_possible(text: str | None) -> bool:
    """Whether the text of a time is of the years 1900 to 2200; infinity and the years before Christ are not."""
    return text is None or re.fullmatch(r"(19|20|21)\d\d-[^B]*|2200-01-01T00:00:00\+00:00", text) is not None
