"""Findings in the rows of a project: cursors, tasks, assets, invalid rows, bars that differ from a recomputation."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator

from agg_pipeline.database.gateway import CONTRACT
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.doctor.facts import Facts, TaskFacts
from agg_pipeline.doctor.finding import AGAIN, APPLY, MIGRATE, PLAN, Finding, Severity, join_names
from agg_pipeline.market.names import shell_words
from agg_pipeline.market.timeframes import LADDER, Timeframe, first_window, next_window, window_start
from agg_pipeline.quality.repair import KINDS, TaskDamage

_FX = ("fx", "forex")
_STALE = dt.timedelta(minutes=15)


def cursor_findings(facts: Facts) -> Iterator[Finding]:
    """Cursors at impossible times, and cursors that the predecessor could not move past an empty window."""
    remedy = APPLY if facts.contract >= CONTRACT else f"{MIGRATE}, then {APPLY}"
    kinds: dict[str, list[str]] = defaultdict(list)
    for task in facts.tasks:
        if kind := cursor_kind(task):
            kinds[kind].append(f"{task} ({task.cursor:%Y-%m-%d %H:%M:%S})" if task.cursor else str(task))
    if tasks := kinds["impossible"]:
        yield Finding(
            Severity.ERROR,
            "cursors",
            f"cursor, agg_start_utc or next_run_at not between 1900 and 2200; nothing is built: {join_names(tasks)}",
            remedy,
        )
    if tasks := kinds["off_grid"]:
        yield Finding(
            Severity.WARNING,
            "cursors",
            f"off the grid, so that bars start between windows: {join_names(tasks)}",
            remedy,
        )
    if tasks := kinds["future"]:
        yield Finding(
            Severity.WARNING, "cursors", f"later than their data, so that nothing is built: {join_names(tasks)}", remedy
        )
    if tasks := kinds["frozen"]:
        yield Finding(
            Severity.WARNING,
            "cursors",
            f"frozen at an empty window, although there are newer bars: {join_names(tasks)}",
            "agg-pipeline tick, or wait for the schedule: the next tick moves them on"
            if facts.contract >= CONTRACT
            else f"{MIGRATE}; the first ticks move them on",
        )


def cursor_kind(task: TaskFacts) -> str | None:
    """Kind of a wrong cursor, impossible, off_grid or future; frozen if it stands at an empty window; else None."""
    if not task.is_possible:
        return "impossible"
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
    """Tasks that are stuck, failed, disabled, idle or without an asset."""
    after = "" if facts.contract >= CONTRACT else "after migrate: "
    stuck = [
        str(t) for t in facts.tasks if t.status == "running" and (not t.running_since or t.running_since < now - _STALE)
    ]
    if stuck:
        yield Finding(
            Severity.WARNING,
            "tasks",
            f"left running by a worker that is gone: {join_names(stuck)}",
            f"{after}{APPLY}, or wait: the next tick frees them",
        )
    for task in facts.tasks:
        if task.status == "disabled":
            yield Finding(
                Severity.WARNING,
                "tasks",
                f"{task} is disabled after failures",
                f"{after}correct what agg-pipeline status names, then "
                f"agg-pipeline resume {shell_words(task.symbol, task.timeframe)}",
            )
    if failed := [str(t) for t in facts.tasks if t.status == "hard_failed"]:
        yield Finding(
            Severity.NOTE,
            "tasks",
            f"hard_failed: {join_names(failed)}",
            "Each tick retries them; a success clears the state.",
        )
    if off := [str(t) for t in facts.tasks if not t.enabled]:
        yield Finding(
            Severity.NOTE,
            "tasks",
            f"switched off by an operator (enabled is false): {join_names(off)}",
            "To switch one on: update public.data_agg_state set enabled = true where ...;",
        )
    wrong = [
        str(t) for t in facts.tasks if t.timeframe in LADDER and t.source_timeframe != LADDER[Timeframe(t.timeframe)]
    ]
    if wrong:
        yield Finding(Severity.NOTE, "tasks", f"wrong source_timeframe: {join_names(wrong)}", "The first tick sets it.")
    symbols = {asset.symbol for asset in facts.assets}
    if idle := [str(t) for t in facts.tasks if t.base and not _can_be_built(t)]:
        yield Finding(
            Severity.NOTE,
            "tasks",
            f"without a source, since the raw bars are not shorter than the timeframe: {join_names(idle)}",
            "They stay idle. To remove one: delete from public.data_agg_state where ...;",
        )
    if lost := [str(t) for t in facts.tasks if t.symbol not in symbols]:
        yield Finding(
            Severity.WARNING,
            "tasks",
            f"without an asset in core_asset_registry_all: {join_names(lost)}",
            "Add the asset, or: delete from public.data_agg_state where canonical_symbol = ...;",
        )


def _can_be_built(task: TaskFacts) -> bool:
    """Whether bars of the asset's base timeframe can be aggregated into the timeframe of the task."""
    return task.timeframe in LADDER and Timeframe(task.timeframe).minutes > Timeframe(task.base or "1m").minutes


def asset_findings(facts: Facts) -> Iterator[Finding]:
    """FX assets that follow no FX calendar."""
    if "trading_calendar" not in facts.columns.get("core_asset_registry_all", ()):
        return
    fx = [
        a.symbol for a in facts.assets if (a.asset_class or "").lower() in _FX and a.trading_calendar in (None, "24x7")
    ]
    if fx:
        yield Finding(
            Severity.NOTE,
            "calendars",
            f"of class fx, but expected to trade at the weekend (24x7): {join_names(fx)}",
            "agg-pipeline calendar SYMBOL fx_24x5 for each, then agg-pipeline calendars --apply for the sessions.",
        )


def row_findings(facts: Facts) -> Iterator[Finding]:
    """Rows that are invalid by themselves, by reason."""
    raw: dict[str, list[str]] = defaultdict(list)
    for found in facts.invalid_rows or ():
        where = f"{found.symbol}/{found.timeframe} {found.rows:,}"
        if found.reason == "live twice":
            yield Finding(
                Severity.ERROR,
                "rows",
                f"bars of derived_data_bars that are live twice: {where}",
                "Before you migrate, close all but the newest: "
                "update public.derived_data_bars set deleted_at = now() where id in (...);",
            )
        else:
            raw[f"{found.table}: {found.reason}"].append(where)
    for reason, places in raw.items():
        if reason == "derived_data_bars: raw bar in the wrong table":
            yield Finding(
                Severity.NOTE,
                "rows",
                f"1m bars in derived_data_bars, which no task reads: {join_names(places)}",
                "To aggregate them, insert them into public.data_bars.",
            )
        elif reason.startswith("data_bars"):
            yield Finding(
                Severity.NOTE,
                "rows",
                f"{reason}: {join_names(places)}",
                "They count as missing. Correct them in the ingester; the bars built from them follow.",
            )
        elif facts.contract < CONTRACT:  # after the migration agg_find_damage reports them
            yield Finding(Severity.WARNING, "rows", f"{reason}: {join_names(places)}", f"{MIGRATE}, then {APPLY}")


def stall_findings(health: Iterable[TaskHealth], facts: Facts) -> Iterator[Finding]:
    """Tasks that do not progress, and triggers that may prevent it."""
    blocked = [task for task in health if task.state in ("stalled", "failed") or task.status == "disabled"]
    stalled = [str(task) for task in blocked if task.state == "stalled"]
    failed = [task for task in blocked if task.state == "failed"]
    triggers = facts.foreign_triggers or ()
    if blocked and triggers:
        states = " or ".join(sorted({task.state for task in blocked}))
        yield Finding(
            Severity.WARNING,
            "tasks",
            f"{states}: {join_names([str(task) for task in blocked])}; "
            f"triggers of others may be the cause: {join_names(triggers)}",
            "docs/operations.md, A task is stalled, shows what they do; if one is the cause: "
            f"drop trigger {triggers[0]};",
        )
    elif failed:
        reasons = [f"{task} ({task.reason})" for task in failed]
        yield Finding(
            Severity.ERROR,
            "tasks",
            f"failed: {join_names(reasons)}",
            "Correct what the reason names; the next tick tries again. agg-pipeline status shows all.",
        )
    elif stalled:
        yield Finding(
            Severity.WARNING,
            "tasks",
            f"stalled: {join_names(stalled)}",
            f"agg-pipeline status shows the kind; if runs succeed, {AGAIN} restores the functions of this package",
        )
    elif triggers:
        yield Finding(
            Severity.NOTE,
            "triggers",
            f"triggers of others on tables that only the pipeline writes: {join_names(triggers)}",
            "They may stay as long as they change no row and raise no error.",
        )


def damage_findings(damage: Iterable[TaskDamage]) -> Iterator[Finding]:
    """Bars that differ from a recomputation, one finding per kind."""
    damage = list(damage)
    for kind, meaning in KINDS.items():
        tasks = [f"{task.task} {task.kinds[kind]:,}" for task in damage if task.kinds[kind]]
        if tasks:
            bars = sum(task.kinds[kind] for task in damage)
            yield Finding(Severity.WARNING, f"bars: {kind}", f"{bars:,} bars ({meaning}): {join_names(tasks)}", PLAN)
