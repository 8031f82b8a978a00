"""Selection of the tasks of a run, and their division into units."""

from collections.abc import Iterator, Sequence

from pydantic import AwareDatetime, Field

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.base import Wire
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.errors import PermanentError
from agg_pipeline.market.names import SymbolError, check_symbol
from agg_pipeline.settings import Settings


class WorkUnit(Wire):
    """Tasks that one step processes, with the limits of the run."""

    tasks: tuple[DueTask, ...]
    max_windows: int
    now_utc: AwareDatetime | None = Field(None, description="Replay: time to take for now. None: the clock.")


READABLE_STEPS = 40
FEW_STEPS = 10


def tasks_per_step(tasks: int, settings: Settings) -> int:
    """Most tasks of a unit where a run has ``tasks``: one each while a person reads the steps, else few large steps.

    A step costs Dagster about a tenth of a second, whatever it holds.
    """
    return settings.tasks_per_step or (1 if tasks <= READABLE_STEPS else -(-tasks // FEW_STEPS))


def windows_per_task(tasks: int, settings: Settings) -> int:
    """Most windows that each of ``tasks`` builds in one run.

    A backlog takes big steps while few tasks are due. Among many it gets the share of each, so that the length of a
    run, for which the live tasks of the next one wait, does not grow with anybody's history.
    """
    return max(settings.max_windows_per_task, settings.max_windows_per_run // max(tasks, 1))


def units(tasks: Sequence[DueTask], size: int) -> Iterator[list[DueTask]]:
    """Divide due tasks into units of at most ``size`` tasks, in due order.

    The tasks of a symbol stay in one unit, which may then be larger; with size 1 each task is a unit.
    """
    if size == 1:
        yield from ([task] for task in tasks)
        return
    by_symbol: dict[str, list[DueTask]] = {}
    for task in tasks:
        by_symbol.setdefault(task.symbol, []).append(task)
    unit: list[DueTask] = []
    for chain in by_symbol.values():
        if unit and len(unit) + len(chain) > size:
            yield unit
            unit = []
        unit.extend(chain)
    if unit:
        yield unit


def named_tasks(names: Sequence[str], gateway: AggGateway) -> list[DueTask]:
    """Tasks by name, SYMBOL/timeframe each, children before parents. Raises PermanentError for unknown names."""
    symbols = {name.rpartition("/")[0] for name in names}
    known = {str(task): task for task in gateway.health(sorted(symbols))}
    if unknown := [name for name in names if name not in known]:
        hint = "Write each as SYMBOL/timeframe, as `agg-pipeline status` does."
        try:
            for name in (name for name in unknown if "/" in name):
                check_symbol(name.rpartition("/")[0])
        except SymbolError as exc:
            raise PermanentError("agg_health", type(exc).__name__, str(exc), hint) from None
        raise PermanentError(
            "agg_health",
            "AG002",
            f"there is no task {', '.join(unknown)}",
            f"There are: {', '.join(known)}." if known else hint,
        )
    return [DueTask(symbol=task.symbol, timeframe=task.timeframe) for name, task in known.items() if name in names]
