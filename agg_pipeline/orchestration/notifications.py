"""Alerts: changes of tasks into and out of a state that needs an operator, their text, and how it is sent.

The sensor alerts decides when to check, and stores which alerts are open.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agg_pipeline.database.models.health import TaskHealth

MAX_LINES = 20  # of one message

Alerts = Mapping[str, str]
"""Open alerts: the state of each task that needs an operator."""


@dataclass(frozen=True)
class Changes:
    """Changes since the last message. ``now``: the alerts that are open with this one."""

    worse: Sequence[TaskHealth] = ()
    better: Sequence[TaskHealth] = ()
    now: Alerts = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.worse or self.better)

    @property
    def title(self) -> str:
        counts = [f"{len(self.worse)} need an operator"] if self.worse else []
        counts += [f"{len(self.better)} recovered"] if self.better else []
        return f"agg_pipeline: {', '.join(counts)}"

    @property
    def text(self) -> str:
        """A line per task, those that need an operator first."""
        lines = [f"{task} is {task.state}" + (f": {task.reason}" if task.reason else "") for task in self.worse]
        lines += [f"{task} has recovered: {task.state}" for task in self.better]
        more = (
            [f"... and {len(lines) - MAX_LINES} more: agg-pipeline status --trouble"] if len(lines) > MAX_LINES else []
        )
        return "\n".join([*lines[:MAX_LINES], *more])


def changes_since(sent: Alerts, health: Sequence[TaskHealth]) -> Changes:
    """Tasks whose alert was opened, changed its state, or was closed since the alerts in ``sent``.

    The alert of a task that was paused or deleted is dropped without a message.
    """
    now = {str(task): task.state for task in health if task.alarm}
    return Changes(
        worse=[task for task in health if str(task) in now and sent.get(str(task)) != task.state],
        better=[task for task in health if str(task) in sent and str(task) not in now and task.state != "paused"],
        now=now,
    )


def send(urls: str, title: str, text: str) -> int:
    """Send a message to apprise URLs, which are separated by blanks or commas; return how many did not accept it.

    The message is plain text, which apprise escapes for services that take HTML, Markdown or a dialect of their own.
    The URLs are secrets: no log and no error names them.
    """
    import apprise  # half a second, which other processes of Dagster need not wait for

    failed = 0
    with _silenced(apprise.logger):
        for url in urls.replace(",", " ").split():
            channel = apprise.Apprise()
            failed += not (
                channel.add(url) and channel.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
            )
    return failed


@contextlib.contextmanager
def _silenced(logger: logging.Logger) -> Iterator[None]:
    """Drop the messages of a logger: those of apprise name hosts and tokens."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)
