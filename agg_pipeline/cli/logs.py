"""The command logs: runs and their outcomes in ops_runlog."""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from agg_pipeline.cli.app import command, console, styled
from agg_pipeline.cli.arguments import Root
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.database.models.runs import LoggedRun, RunEvent
from agg_pipeline.errors import TransientError

POLL_S = 2.0
_COLOURS = {"success": "green", "failed": "bold red", "transient": "yellow", "hard": "bold red", "lost": "yellow"}


@command("logs")
def logs(
    symbol: Annotated[
        str | None,
        typer.Option("--symbol", help="Only outcomes of this symbol's tasks. One that begins with -: --symbol=-X."),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed.")] = False,
    runs: Annotated[int, typer.Option("--runs", min=1, max=500, help="Newest runs to show.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow new entries until Ctrl-C.")] = False,
    root: Root = ROOT,
) -> None:
    """Show the outcomes of the newest runs, task by task: outcome, counts, error."""
    printed: set[tuple[object, ...]] = set()
    shown = False
    with connect(root) as gateway:
        while True:
            try:
                for run in gateway.recent_runs(None, limit=runs):
                    for key, line, bad, about in _lines(run):
                        if key not in printed:
                            printed.add(key)
                            if (bad or not failed) and (symbol is None or about in (None, symbol)):
                                shown = True
                                console.print(line, highlight=False, soft_wrap=True)
            except TransientError as exc:
                if not follow:
                    raise
                console.print(str(exc), style="yellow", highlight=False, soft_wrap=True)
            if not follow:
                break
            time.sleep(POLL_S)
    if not shown:
        what = "Nothing failed" if failed and printed else "There is no run"
        console.print(f"{what} in ops_runlog (newest {runs} runs; --runs looks further back).")


def _lines(run: LoggedRun) -> Iterator[tuple[tuple[object, ...], str | Text, bool, str | None]]:
    """Lines of a run: key, text, whether it is a failure, and its symbol (None: of the whole run)."""
    name = f"{run.run_id[:8]} "
    start = f"{run.started_at:%Y-%m-%d %H:%M:%S} {name}{run.job_name} started by {run.trigger}"
    yield (run.run_id, "start"), start, False, None
    for n, event in enumerate(run.events):
        if "/" in event.checkpoint:
            outcome = str(event.details.get("outcome", "?"))
            yield (
                (run.run_id, n),
                styled(f"{event.ts:%Y-%m-%d %H:%M:%S} {name}", *_outcome(event, outcome)),
                outcome != "success",
                event.checkpoint.rpartition("/")[0],
            )
        elif event.checkpoint == "selected_due_tasks":
            text = f"{event.ts:%Y-%m-%d %H:%M:%S} {name}{event.details.get('task_count', '?')} tasks are due"
            yield (run.run_id, n), text, False, None
    if run.finished_at is not None:
        error = f": {run.stats['error']}" if run.stats.get("error") else ""
        begin, colour = f"{run.finished_at:%Y-%m-%d %H:%M:%S} {name}ended: ", _COLOURS.get(run.status, "yellow")
        yield (run.run_id, "end"), styled(begin, (run.status, colour), error), run.status != "success", None


def _outcome(event: RunEvent, outcome: str) -> tuple[str | tuple[str, str], ...]:
    counts = {key: value for key, value in event.details.items() if isinstance(value, int) and value}
    shown = ", ".join(f"{key} {value:,}" for key, value in counts.items())
    error = f": {event.details['error']}" if event.details.get("error") else ""
    more = (shown + error).rstrip()
    return f"{event.checkpoint} ", (outcome, _COLOURS.get(outcome, "yellow")), f" {more}" if more else ""
