"""How due tasks are cut into steps."""

from hypothesis import given
from hypothesis import strategies as st

from agg_pipeline.aggregation.selection import units, windows_per_task
from agg_pipeline.database.models.tasks import DueTask
from agg_pipeline.settings import Settings

TIMEFRAMES = ["5m", "15m", "1h", "4h", "1d"]


def in_due_order(found: list[tuple[str, str]]) -> list[DueTask]:
    return [DueTask(symbol=s, timeframe=tf) for tf, s in sorted(found, key=lambda task: TIMEFRAMES.index(task[0]))]


due = st.lists(st.tuples(st.sampled_from(TIMEFRAMES), st.sampled_from("ABCDEFGH")), unique=True).map(in_due_order)


@given(due, st.integers(1, 40))
def test_no_task_is_lost_or_doubled(tasks: list[DueTask], size: int) -> None:
    cut = [str(task) for unit in units(tasks, size) for task in unit]
    assert sorted(cut) == sorted(map(str, tasks))


@given(due)
def test_one_task_a_step_keeps_the_due_order(tasks: list[DueTask]) -> None:
    assert [[str(task)] for task in tasks] == [[str(t) for t in unit] for unit in units(tasks, 1)]


@given(due, st.integers(2, 40))
def test_a_step_of_several_never_splits_a_symbol(tasks: list[DueTask], size: int) -> None:
    symbols = [{task.symbol for task in unit} for unit in units(tasks, size)]
    assert sum(map(len, symbols)) == len(set().union(*symbols))


@given(due, st.integers(2, 40))
def test_a_step_is_larger_than_asked_only_for_one_long_chain(tasks: list[DueTask], size: int) -> None:
    for unit in units(tasks, size):
        assert len(unit) <= size or len({task.symbol for task in unit}) == 1


@given(st.integers(0, 200_000), st.integers(1, 1000), st.integers(1, 100_000))
def test_tasks_share_the_windows_of_a_run(tasks: int, per_task: int, per_run: int) -> None:
    settings = Settings(max_windows_per_task=per_task, max_windows_per_run=per_run)
    share = windows_per_task(tasks, settings)
    assert share >= per_task
    assert share * tasks <= max(per_run, per_task * tasks)
    assert share >= per_run // max(tasks, 1), "a backlog that is alone takes the whole run"
