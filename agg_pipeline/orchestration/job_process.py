"""Runs of the job agg_master in a child process, for commands.

The child gets its variables when it is started, so that secrets reach Dagster only as dg.EnvVar and never as values of
a resource's config, which Dagster stores. Dagster, which takes seconds to import, is imported in the child alone.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Self, TextIO, cast

from pydantic import BaseModel

from agg_pipeline.errors import GatewayError
from agg_pipeline.settings import load_settings

if TYPE_CHECKING:
    import dagster as dg


class JobProcessError(RuntimeError):
    """The child process ended before its runs did; its traceback is on standard error."""


class JobRun(BaseModel):
    """Result of one run: a line per timeframe, the reason of a failure, whether another run is allowed and due."""

    success: bool
    lines: list[str] = []
    failure: str | None = None
    is_more_due: bool = False


class JobProcess:
    """A child process that imports Dagster at once and then executes the job; a context manager that ends it.

    With DAGSTER_HOME in ``environment`` the runs are stored there and show in the UI of that instance; without it only
    their bars remain.

    Args:
        environment: all variables of the child.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # -P: without it a module of the working directory could take the place of one of ours.
        command = [sys.executable, "-P", "-m", __name__]
        self._child = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self._child.wait()  # the terminal interrupts both; the child ends its run and returns its leases
        self._child.__exit__(None, None, None)

    def run(self, config: Mapping[str, object], *, max_runs: int = 1) -> Iterator[JobRun]:
        """Execute the job, again while tasks are due, at most ``max_runs`` times. Can be called once.

        A run that fails is the last one.

        Args:
            config: of the op select_due; None values are left out.
        Yields:
            Each run when it has ended.
        Raises:
            JobProcessError: the child ended before its runs did.
        """
        ops = {"select_due": {"config": {name: value for name, value in config.items() if value is not None}}}
        orders, results = cast(IO[str], self._child.stdin), cast(IO[str], self._child.stdout)
        with contextlib.suppress(BrokenPipeError):  # it has ended, as its exit code says
            print(json.dumps({"ops": ops, "max_runs": max_runs}), file=orders, flush=True)
        for line in results:
            run = JobRun.model_validate_json(line)
            if not run.is_more_due:
                self._child.wait()  # a caller that stops now closes the standard input, which would interrupt the child
            yield run
        if code := self._child.wait():
            raise JobProcessError(f"The process of the run ended with exit code {code}; see its output above.")


def main() -> None:
    """Entry point of the child: reads an order from standard input, prints a line of JSON for each run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits that it is ignored
    results = _take_standard_output()
    import dagster  # noqa: F401 - while the parent still prepares the order

    if not (order := sys.stdin.readline()):
        return
    threading.Thread(target=_interrupt_without_parent, daemon=True).start()
    for run in _runs(**json.loads(order)):
        print(run.model_dump_json(), file=results, flush=True)


def _take_standard_output() -> TextIO:
    """Standard output for the results alone: what anything else prints goes to standard error."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
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
    is_stored = bool(os.environ.get("DAGSTER_HOME"))
    run_config = {"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    try:
        with resources["supabase"].process_config_and_initialize_cm() as supabase:
            supabase.gateway.check_contract()  # an unreachable database is one line here, a page in a run
            for _ in range(max_runs):
                with dg.DagsterInstance.get() if is_stored else dg.DagsterInstance.ephemeral() as instance:
                    run = _result(job.execute_in_process(run_config, instance, raise_on_error=False))
                if run.success and max_runs > 1:
                    run.is_more_due = supabase.has_due_tasks(stale_seconds=settings.running_stale_seconds)
                yield run
                if not run.is_more_due:
                    break
    except GatewayError as exc:
        yield JobRun(success=False, failure=str(exc))
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None


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
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
