"""Alerts: which tasks changed into a state that somebody has to look at, or out of it, and how that is sent.

Belongs here: what is told and through what. When to look, and what was told before: the sensor.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agg_pipeline.database.models.health import TaskHealth

SHOWN = 20  # tasks that one message names

Told = Mapping[str, str]  # state by task, of the tasks that somebody has to look at


@dataclass(frozen=True)
class Changes:
    """What is new since the last message. ``now`` is what will have been told with this one."""

    worse: Sequence[TaskHealth] = ()
    better: Sequence[TaskHealth] = ()
    now: Told = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.worse or self.better)

    @property
    def title(self) -> str:
        counts = [f"{len(self.worse)} to look at"] if self.worse else []
        counts += [f"{len(self.better)} well again"] if self.better else []
        return f"agg_pipeline: {', '.join(counts)}"

    @property
    def text(self) -> str:
        """A line per task, what to look at first."""
        lines = [f"{task} is {task.state}" + (f": {task.reason}" if task.reason else "") for task in self.worse]
        lines += [f"{task} is well again, {task.state}" for task in self.better]
        more = [f"... and {len(lines) - SHOWN} more: agg-pipeline status --trouble"] if len(lines) > SHOWN else []
        return "\n".join([*lines[:SHOWN], *more])


def changes(told: Told, health: Sequence[TaskHealth]) -> Changes:
    """What to tell, once: a task that came into such a state or from one to another, or that left it.

    A task that is paused or gone is no longer spoken of.
    """
    now = {str(task): task.state for task in health if task.alarm}
    return Changes(
        worse=[task for task in health if str(task) in now and told.get(str(task)) != task.state],
        better=[task for task in health if str(task) in told and str(task) not in now and task.state != "paused"],
        now=now,
    )


def send(urls: str, title: str, text: str) -> int:
    """Send to each of the apprise URLs in ``urls`` (separated by blanks or commas); how many did not take it.

    What a URL holds is a secret: it is in no log and no error.
    """
    import apprise  # takes a while to load

    failed = 0
    with _silenced(apprise.logger):
        for url in urls.replace(",", " ").split():
            channel = apprise.Apprise()
            failed += not (channel.add(url) and channel.notify(title=title, body=text))
    return failed


@contextlib.contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Drop what is logged meanwhile: apprise names hosts and tokens."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)
