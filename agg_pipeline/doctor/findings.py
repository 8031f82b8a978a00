"""What the facts of a project mean, and what to type: one function per topic, each yields findings."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from agg_pipeline.damage import KINDS, TaskDamage
from agg_pipeline.doctor.facts import Facts, TaskFacts
from agg_pipeline.gateway import CONTRACT, FUNCTIONS
from agg_pipeline.migrations import Migration
from agg_pipeline.timeframes import LADDER, Timeframe, first_window, next_window, window_start

MIGRATE = "agg-pipeline migrate"
AGAIN = "agg-pipeline migrate --again"
REPAIR = "agg-pipeline repair --plan"
_INGESTERS_TABLES = ("data_bars", "core_asset_registry_all")
_FX = ("fx", "forex")
_STALE = dt.timedelta(minutes=15)


class Severity(StrEnum):
    """error: nothing works before it is mended; warning: something to do; note: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that was found. ``remedy`` is what to type, or why nothing is to be done."""

    severity: Severity
    about: str
    found: str
    remedy: str


def state_of(facts: Facts) -> str:
    """Which database this is, in words."""
    if facts.contract >= CONTRACT:
        return f"agg_pipeline, contract {facts.contract}"
    if facts.contract:
        return f"an older agg_pipeline, contract {facts.contract} (this one needs {CONTRACT})"
    if facts.recorded and "lease_token" in facts.columns.get("data_agg_state", ()):
        return "a migration to agg_pipeline that broke off"
    if "data_agg_state" not in facts.columns:
        return "no aggregator yet" + (", but raw bars" if "data_bars" in facts.columns else ": an empty project")
    parts = ["before its phase 5" if _lacking_columns(facts) else "since its phase 5"]
    if "agg_finish" in facts.doubled:
        parts.append("with two agg_finish")
    if facts.has_hour_of_010:
        parts.append("with the 1h function of its migration 010")
    parts.append(f"health tables {_health_shape(facts)}")
    return f"the predecessor, {', '.join(parts)}"


def findings(facts: Facts, pending: Sequence[Migration], now: dt.datetime) -> list[Finding]:
    """All findings, the worst first.

    Args:
        pending: what ``migrate`` would apply; of a project that was seen over HTTP: everything, unless it is ours.
    """
    found = [
        *_version(facts, pending),
        *_functions(facts, pending),
        *_rights(facts, pending),
        *_health(facts),
        *_cursors(facts),
        *_tasks(facts, now),
        *_assets(facts),
        *_rows(facts),
        *(
            Finding(Severity.NOTE, "not checked", f"{what}: needs a database URL", "Set SUPABASE_DB_URL.")
            for what in facts.unseen
        ),
    ]
    return worst_first(found)


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def damage_findings(damage: Iterable[TaskDamage]) -> Iterator[Finding]:
    """Bars that their source does not give, one finding per kind."""
    damage = list(damage)
    for kind, meaning in KINDS.items():
        tasks = [f"{task.task} {task.kinds[kind]:,}" for task in damage if task.kinds[kind]]
        if tasks:
            bars = sum(task.kinds[kind] for task in damage)
            yield Finding(Severity.WARNING, f"bars: {kind}", f"{bars:,} bars ({meaning}): {_some(tasks)}", REPAIR)


def _version(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    files = (
        f"{len(pending)} files are pending: {_some([m.path.name for m in pending], 3)}"
        if pending
        else "no file is pending"
    )
    if facts.contract < CONTRACT:
        missing = sorted(FUNCTIONS - facts.functions.keys())
        yield Finding(
            Severity.ERROR,
            "version",
            f"this is {state_of(facts)}; of the functions that this package calls {len(missing)} are missing: "
            f"{_some(missing, 5)}. {files}",
            MIGRATE if pending else AGAIN,
        )
        if tables := sorted({"data_bars", "derived_data_bars", "data_agg_state", "ops_runlog"} - facts.columns.keys()):
            yield Finding(Severity.WARNING, "tables", f"missing: {', '.join(tables)}", f"{MIGRATE}, which makes them")
        if columns := _lacking_columns(facts):
            yield Finding(
                Severity.WARNING, "tables", f"data_agg_state lacks {', '.join(columns)}", f"{MIGRATE}, which adds them"
            )
        yield Finding(
            Severity.NOTE, "not checked", "bars against their source bars, which needs our functions",
            f"{MIGRATE}, then {REPAIR}, which writes nothing",
        )  # fmt: skip
    elif pending:
        yield Finding(Severity.WARNING, "version", files, MIGRATE)


def _functions(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    mend = MIGRATE if pending else AGAIN
    if facts.doubled:
        yield Finding(
            Severity.ERROR,
            "functions",
            f"there twice: {', '.join(sorted(facts.doubled))}. Over the REST API every call is refused (PGRST203): "
            "the predecessor's tasks stay running, and its run says success",
            f"{mend}, which leaves one of each",
        )
    if facts.contract >= CONTRACT and (missing := sorted(FUNCTIONS - facts.functions.keys())):
        yield Finding(Severity.ERROR, "functions", f"missing: {', '.join(missing)}", mend)
    if facts.has_hour_of_010 and facts.contract < CONTRACT:
        yield Finding(
            Severity.ERROR,
            "functions",
            "aggregate_5m_to_1h_window fails at every hour that it has a bar to store for",
            MIGRATE,
        )


def _rights(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    mend = MIGRATE if pending else AGAIN
    if facts.open_to_browsers:
        yield Finding(
            Severity.ERROR,
            "grants",
            f"anyone with the public key may use {_some(facts.open_to_browsers)} (anon, authenticated)",
            f"{mend}, which closes them",
        )
    if facts.without_rls:
        yield Finding(Severity.WARNING, "grants", f"no row level security on {', '.join(facts.without_rls)}", mend)
    extra = facts.extra_grants or {}
    ours = [f"{table} ({', '.join(kinds)})" for table, kinds in extra.items() if table not in _INGESTERS_TABLES]
    if ours:
        yield Finding(
            Severity.WARNING, "grants", f"service_role may more than it needs on {', '.join(ours)}",
            f"{mend}, which takes it away",
        )  # fmt: skip
    for table in _INGESTERS_TABLES:
        if kinds := extra.get(table):
            yield Finding(
                Severity.NOTE,
                "grants",
                f"service_role may {', '.join(kinds)} on {table}, which is the ingester's: kept",
                f"If the ingester needs it not: revoke {', '.join(kinds).lower()} on public.{table} from service_role;",
            )


def _health(facts: Facts) -> Iterator[Finding]:
    if _health_shape(facts) == "of the validator":
        yield Finding(
            Severity.NOTE,
            "tables",
            "ops_issues or quality_workerhealth has the validator's shape: kept, and runs are not reported there",
            f"To have them, rename both (alter table public.ops_issues rename to validator_issues;), then {AGAIN}",
        )


def _cursors(facts: Facts) -> Iterator[Finding]:
    mend = (
        "agg-pipeline repair --apply" if facts.contract >= CONTRACT else f"{MIGRATE}, then agg-pipeline repair --apply"
    )
    kinds: dict[str, list[str]] = defaultdict(list)
    for task in facts.tasks:
        if kind := cursor_kind(task):
            kinds[kind].append(f"{task} ({task.cursor:%Y-%m-%d %H:%M:%S})")
    if tasks := kinds["off_grid"]:
        yield Finding(
            Severity.WARNING, "cursors", f"off the grid, so that bars start where no window does: {_some(tasks)}", mend
        )
    if tasks := kinds["future"]:
        yield Finding(
            Severity.WARNING, "cursors", f"in the future of their data, so that nothing is built: {_some(tasks)}", mend
        )
    if tasks := kinds["frozen"]:
        yield Finding(
            Severity.WARNING,
            "cursors",
            f"frozen at an empty window, while data goes on: {_some(tasks)}",
            "agg-pipeline tick, or wait for the schedule: it passes them"
            if facts.contract >= CONTRACT
            else f"{MIGRATE}; the first ticks pass them",
        )


def cursor_kind(task: TaskFacts) -> str | None:
    """off_grid, future or frozen; None: where a cursor may be."""
    if task.cursor is None or task.base is None or not _can_be_built(task):
        return None
    timeframe = Timeframe(task.timeframe)
    first = first_window(task.start.astimezone(dt.UTC), timeframe)
    has_data = task.newest is not None and task.newest >= first
    if task.cursor > (next_window(task.newest, timeframe) if has_data and task.newest else first):
        return "future"
    if task.cursor >= first and task.cursor != window_start(task.cursor, timeframe):
        return "off_grid"
    if task.is_empty_at_cursor and task.newest and task.newest >= next_window(max(first, task.cursor), timeframe):
        return "frozen"
    return None


def _can_be_built(task: TaskFacts) -> bool:
    """Whether its timeframe is one that bars of the asset's base timeframe are rolled up into."""
    return task.timeframe in LADDER and Timeframe(task.timeframe).minutes > Timeframe(task.base or "1m").minutes


def _tasks(facts: Facts, now: dt.datetime) -> Iterator[Finding]:
    after = "" if facts.contract >= CONTRACT else "after migrate: "
    stuck = [
        str(t) for t in facts.tasks if t.status == "running" and (not t.running_since or t.running_since < now - _STALE)
    ]
    if stuck:
        yield Finding(
            Severity.WARNING, "tasks", f"left running by a worker that is gone: {_some(stuck)}",
            f"{after}agg-pipeline repair --apply, or wait: a tick frees them",
        )  # fmt: skip
    for task in facts.tasks:
        if task.status == "disabled":
            yield Finding(
                Severity.WARNING, "tasks", f"{task} is disabled after failures",
                f"{after}agg-pipeline resume {task.symbol} {task.timeframe}",
            )  # fmt: skip
    if failed := [str(t) for t in facts.tasks if t.status == "hard_failed"]:
        yield Finding(
            Severity.NOTE, "tasks", f"hard_failed: {_some(failed)}", "Each tick tries them again; a success heals them."
        )
    if off := [str(t) for t in facts.tasks if not t.enabled]:
        yield Finding(
            Severity.NOTE, "tasks", f"switched off by an operator (enabled is false): {_some(off)}",
            "To switch one on: update public.data_agg_state set enabled = true where ...;",
        )  # fmt: skip
    wrong = [
        str(t) for t in facts.tasks if t.timeframe in LADDER and t.source_timeframe != LADDER[Timeframe(t.timeframe)]
    ]
    if wrong:
        yield Finding(Severity.NOTE, "tasks", f"wrong source_timeframe: {_some(wrong)}", "The first tick sets it.")
    symbols = {asset.symbol for asset in facts.assets}
    if idle := [str(t) for t in facts.tasks if t.base and not _can_be_built(t)]:
        yield Finding(
            Severity.NOTE, "tasks", f"with nothing to be built from, since the raw bars are no shorter: {_some(idle)}",
            "They stay idle. To be rid of one: delete from public.data_agg_state where ...;",
        )  # fmt: skip
    if lost := [str(t) for t in facts.tasks if t.symbol not in symbols]:
        yield Finding(
            Severity.WARNING, "tasks", f"without an asset in core_asset_registry_all: {_some(lost)}",
            "Add the asset, or: delete from public.data_agg_state where canonical_symbol = ...;",
        )  # fmt: skip


def _assets(facts: Facts) -> Iterator[Finding]:
    if "trading_calendar" not in facts.columns.get("core_asset_registry_all", ()):
        return
    fx = [
        a.symbol for a in facts.assets if (a.asset_class or "").lower() in _FX and a.trading_calendar in (None, "24x7")
    ]
    if fx:
        yield Finding(
            Severity.WARNING,
            "calendars",
            f"of class fx, but expected to trade at the weekend (24x7): {_some(fx)}",
            "update public.core_asset_registry_all set trading_calendar = 'fx_24x5' "
            "where lower(asset_class) in ('fx', 'forex');",
        )


def _rows(facts: Facts) -> Iterator[Finding]:
    raw: dict[str, list[str]] = defaultdict(list)
    for found in facts.unsound or ():
        where = f"{found.symbol}/{found.timeframe} {found.rows:,}"
        if found.reason == "live twice":
            yield Finding(
                Severity.ERROR, "rows", f"bars of derived_data_bars that are live twice: {where}",
                "Before you migrate, close all but the newest: "
                "update public.derived_data_bars set deleted_at = now() where id in (...);",
            )  # fmt: skip
        else:
            raw[f"{found.table}: {found.reason}"].append(where)
    for reason, places in raw.items():
        if reason == "derived_data_bars: raw bar in the wrong table":
            yield Finding(
                Severity.NOTE, "rows", f"1m bars in derived_data_bars, where nobody reads them: {_some(places)}",
                "To build from them: insert them into public.data_bars.",
            )  # fmt: skip
        elif reason.startswith("data_bars"):
            yield Finding(
                Severity.NOTE, "rows", f"{reason}: {_some(places)}",
                "They count as missing, and bars name them in raw. Mend them at the ingester; bars follow.",
            )  # fmt: skip
        elif facts.contract < CONTRACT:  # later find_damage says it
            yield Finding(
                Severity.WARNING, "rows", f"{reason}: {_some(places)}", f"{MIGRATE}, then agg-pipeline repair --apply"
            )


def _lacking_columns(facts: Facts) -> list[str]:
    has = facts.columns.get("data_agg_state", frozenset())
    return [name for name in ("is_mandatory", "agg_start_utc", "enabled", "task_priority") if has and name not in has]


def _health_shape(facts: Facts) -> str:
    shapes = [facts.columns[table] for table in ("ops_issues", "quality_workerhealth") if table in facts.columns]
    if not shapes:
        return "absent"
    return "of its newer worker" if all("env_name" in shape for shape in shapes) else "of the validator"


def _some(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
