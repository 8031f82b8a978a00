"""Runs of the job agg_master in a child process, for commands.

The child gets its variables when it is started, so that secrets reach Dagster only as dg.EnvVar and never as values of
a resource's config, which Dagster stores. Dagster, which takes seconds to import, is imported in the child alone.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TextIO

from pydantic import BaseModel

from agg_pipeline.errors import GatewayError
from agg_pipeline.settings import load_settings

if TYPE_CHECKING:
    import dagster as dg


class JobProcessError(RuntimeError):
    """The child process ended before its runs did; its traceback is on standard error."""


class JobRun(BaseModel):
    """Result of one run: a line per timeframe, why it failed if it did, whether tasks are still due after it."""

    success: bool
    lines: list[str] = []
    failure: str | None = None
    is_more_due: bool = False


def run_job(config: Mapping[str, object], environment: Mapping[str, str], *, max_runs: int = 1) -> Iterator[JobRun]:
    """Execute the job in a child process, again while tasks are due, at most ``max_runs`` times.

    With DAGSTER_HOME in ``environment`` the runs are stored there and show in the UI of that instance; without it only
    their bars remain. A run that fails is the last one.

    Args:
        config: of the op select_due; None values are left out.
        environment: all variables of the child.
    Yields:
        Each run, when it has ended.
    Raises:
        JobProcessError: the child ended before its runs did.
    """
    ops = {"select_due": {"config": {name: value for name, value in config.items() if value is not None}}}
    # -P: without it a module of the working directory could take the place of one of ours.
    command = [sys.executable, "-P", "-m", __name__, json.dumps(ops), str(max_runs)]
    with subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None  # noqa: S101 - for the type checker
        try:
            for line in child.stdout:
                yield JobRun.model_validate_json(line)
        except KeyboardInterrupt:
            child.wait()  # the terminal interrupts both; the child ends its run and gives its leases back
            raise
    if child.returncode:
        raise JobProcessError(f"The process of the run ended with exit code {child.returncode}; see its output above.")


def main() -> None:
    """Entry point of the child: runs as JSON on standard output, a line each."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    results = _take_standard_output()
    threading.Thread(target=_interrupt_without_parent, daemon=True).start()
    ops, max_runs = json.loads(sys.argv[1]), int(sys.argv[2])
    for run in _runs(ops, max_runs):
        print(run.model_dump_json(), file=results, flush=True)


def _take_standard_output() -> TextIO:
    """Standard output for the results alone: what anything else prints goes to standard error."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return results


def _interrupt_without_parent() -> None:
    """End the run when the parent is gone, however it ended: then the pipe to standard input closes."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGINT)


def _runs(ops: dict[str, object], max_runs: int) -> Iterator[JobRun]:
    import dagster as dg

    from agg_pipeline.orchestration.jobs import build_job
    from agg_pipeline.orchestration.resources import resources_for

    settings = load_settings()
    resources = resources_for(settings.env_name)
    job = build_job(settings, resources)
    with resources["supabase"].process_config_and_initialize_cm() as supabase:
        try:
            supabase.gateway.check_contract()  # here an unreachable database is one line, in a run a page
        except GatewayError as exc:
            yield JobRun(success=False, failure=str(exc))
            return
        run = JobRun(success=True, is_more_due=True)
        while max_runs and run.success and run.is_more_due:
            max_runs -= 1
            is_kept = bool(os.environ.get("DAGSTER_HOME"))
            with dg.DagsterInstance.get() if is_kept else dg.DagsterInstance.ephemeral() as instance:
                run = _result(
                    job.execute_in_process(
                        run_config={"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                        instance=instance,
                        raise_on_error=False,
                    )
                )
            run.is_more_due = supabase.has_due_tasks(stale_seconds=settings.running_stale_seconds)
            yield run


def _result(result: "dg.ExecuteInProcessResult") -> JobRun:
    import dagster as dg

    run = JobRun(success=result.success)
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            run.lines.append(event.step_materialization_data.materialization.description or "")
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            run.failure = (
                data.user_failure_data.description if data.user_failure_data else str(data.error_display_string)
            )
    return run


if __name__ == "__main__":
    main()
