"""What the rows of a project say: cursors, tasks, assets, unsound rows, bars that their source does not give."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator

from agg_pipeline.database.gateway import CONTRACT
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.doctor.facts import Facts, TaskFacts
from agg_pipeline.doctor.finding import AGAIN, APPLY, MIGRATE, PLAN, Finding, Severity, some
from agg_pipeline.market.timeframes import LADDER, Timeframe, first_window, next_window, window_start
from agg_pipeline.quality.repair import KINDS, TaskDamage

_FX = ("fx", "forex")
_STALE = dt.timedelta(minutes=15)


def cursor_findings(facts: Facts) -> Iterator[Finding]:
    mend = APPLY if facts.contract >= CONTRACT else f"{MIGRATE}, then {APPLY}"
    kinds: dict[str, list[str]] = defaultdict(list)
    for task in facts.tasks:
        if kind := cursor_kind(task):
            kinds[kind].append(f"{task} ({task.cursor:%Y-%m-%d %H:%M:%S})")
    if tasks := kinds["off_grid"]:
        yield Finding(
            Severity.WARNING, "cursors", f"off the grid, so that bars start where no window does: {some(tasks)}", mend
        )
    if tasks := kinds["future"]:
        yield Finding(
            Severity.WARNING, "cursors", f"in the future of their data, so that nothing is built: {some(tasks)}", mend
        )
    if tasks := kinds["frozen"]:
        yield Finding(
            Severity.WARNING,
            "cursors",
            f"frozen at an empty window, while data goes on: {some(tasks)}",
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


def task_findings(facts: Facts, now: dt.datetime) -> Iterator[Finding]:
    after = "" if facts.contract >= CONTRACT else "after migrate: "
    stuck = [
        str(t) for t in facts.tasks if t.status == "running" and (not t.running_since or t.running_since < now - _STALE)
    ]
    if stuck:
        yield Finding(
            Severity.WARNING, "tasks", f"left running by a worker that is gone: {some(stuck)}",
            f"{after}{APPLY}, or wait: a tick frees them",
        )  # fmt: skip
    for task in facts.tasks:
        if task.status == "disabled":
            yield Finding(
                Severity.WARNING, "tasks", f"{task} is disabled after failures",
                f"{after}mend what agg-pipeline status names, then agg-pipeline resume {task.symbol} {task.timeframe}",
            )  # fmt: skip
    if failed := [str(t) for t in facts.tasks if t.status == "hard_failed"]:
        yield Finding(
            Severity.NOTE, "tasks", f"hard_failed: {some(failed)}", "Each tick tries them again; a success heals them."
        )
    if off := [str(t) for t in facts.tasks if not t.enabled]:
        yield Finding(
            Severity.NOTE, "tasks", f"switched off by an operator (enabled is false): {some(off)}",
            "To switch one on: update public.data_agg_state set enabled = true where ...;",
        )  # fmt: skip
    wrong = [
        str(t) for t in facts.tasks if t.timeframe in LADDER and t.source_timeframe != LADDER[Timeframe(t.timeframe)]
    ]
    if wrong:
        yield Finding(Severity.NOTE, "tasks", f"wrong source_timeframe: {some(wrong)}", "The first tick sets it.")
    symbols = {asset.symbol for asset in facts.assets}
    if idle := [str(t) for t in facts.tasks if t.base and not _can_be_built(t)]:
        yield Finding(
            Severity.NOTE, "tasks", f"with nothing to be built from, since the raw bars are no shorter: {some(idle)}",
            "They stay idle. To be rid of one: delete from public.data_agg_state where ...;",
        )  # fmt: skip
    if lost := [str(t) for t in facts.tasks if t.symbol not in symbols]:
        yield Finding(
            Severity.WARNING, "tasks", f"without an asset in core_asset_registry_all: {some(lost)}",
            "Add the asset, or: delete from public.data_agg_state where canonical_symbol = ...;",
        )  # fmt: skip


def _can_be_built(task: TaskFacts) -> bool:
    """Whether its timeframe is one that bars of the asset's base timeframe are rolled up into."""
    return task.timeframe in LADDER and Timeframe(task.timeframe).minutes > Timeframe(task.base or "1m").minutes


def asset_findings(facts: Facts) -> Iterator[Finding]:
    if "trading_calendar" not in facts.columns.get("core_asset_registry_all", ()):
        return
    fx = [
        a.symbol for a in facts.assets if (a.asset_class or "").lower() in _FX and a.trading_calendar in (None, "24x7")
    ]
    if fx:
        yield Finding(
            Severity.NOTE,
            "calendars",
            f"of class fx, but expected to trade at the weekend (24x7): {some(fx)}",
            "agg-pipeline calendar SYMBOL fx_24x5 for each; agg-pipeline calendars --apply fills in the sessions.",
        )


def row_findings(facts: Facts) -> Iterator[Finding]:
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
                Severity.NOTE, "rows", f"1m bars in derived_data_bars, where nobody reads them: {some(places)}",
                "To build from them: insert them into public.data_bars.",
            )  # fmt: skip
        elif reason.startswith("data_bars"):
            yield Finding(
                Severity.NOTE, "rows", f"{reason}: {some(places)}",
                "They count as missing, and bars name them in raw. Mend them at the ingester; bars follow.",
            )  # fmt: skip
        elif facts.contract < CONTRACT:  # later find_damage says it
            yield Finding(Severity.WARNING, "rows", f"{reason}: {some(places)}", f"{MIGRATE}, then {APPLY}")


def stall_findings(health: Iterable[TaskHealth], facts: Facts) -> Iterator[Finding]:
    """Tasks that do not go on, and what may hold them."""
    held = [task for task in health if task.state in ("stalled", "failed") or task.status == "disabled"]
    stalled = [str(task) for task in held if task.state == "stalled"]
    held_by = facts.triggers_of_others or ()
    if held and held_by:
        states = " or ".join(sorted({task.state for task in held}))
        yield Finding(
            Severity.WARNING, "tasks",
            f"{states}: {some([str(task) for task in held])}; triggers that are not ours may be why: {some(held_by)}",
            "docs/operations.md, A task is stalled, shows what they do; if that is it: "
            f"drop trigger {held_by[0]};",
        )  # fmt: skip
    elif stalled:
        yield Finding(
            Severity.WARNING, "tasks", f"stalled: {some(stalled)}",
            f"agg-pipeline status says which kind; if runs succeed, {AGAIN} puts our functions back",
        )  # fmt: skip
    elif held_by:
        yield Finding(
            Severity.NOTE, "triggers", f"not ours, on tables that only the pipeline writes: {some(held_by)}",
            "They may stay as long as they change no row and raise no error.",
        )  # fmt: skip


def damage_findings(damage: Iterable[TaskDamage]) -> Iterator[Finding]:
    """Bars that their source does not give, one finding per kind."""
    damage = list(damage)
    for kind, meaning in KINDS.items():
        tasks = [f"{task.task} {task.kinds[kind]:,}" for task in damage if task.kinds[kind]]
        if tasks:
            bars = sum(task.kinds[kind] for task in damage)
            yield Finding(Severity.WARNING, f"bars: {kind}", f"{bars:,} bars ({meaning}): {some(tasks)}", PLAN)
