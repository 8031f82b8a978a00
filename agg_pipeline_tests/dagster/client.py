"""What an operator does in Dagster's UI, over the GraphQL that the UI speaks."""

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agg_pipeline.embedded.dagster_services import DagsterServices

PATIENCE_S = 150  # a busy machine
_REPOSITORY = {"repositoryLocationName": "agg_pipeline", "repositoryName": "__repository__"}
T = TypeVar("T")

_RUNS = """query($filter: RunsFilter) { runsOrError(filter: $filter, limit: 50) { ... on Runs { results {
             runId status tags { key value } creationTime startTime endTime } } } }"""
_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
               ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
               ... on RunConfigValidationInvalid { errors { message } } } }"""
_REEXECUTE = """mutation($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) { __typename
                  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_TERMINATE = """mutation($run: String!) { terminateRun(runId: $run) { __typename ... on PythonError { message } } }"""
_EVENTS = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
               __typename ... on MessageEvent { message stepKey } ... on ExecutionStepFailureEvent {
                 error { message } failureMetadata { description metadataEntries { label } } } } } } }"""
_SENSOR_TICKS = """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
              sensorState { ticks(limit: 3) { timestamp status } } } } }"""
_SCHEDULE = """query($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) {
                 ... on Schedule { scheduleState { id } } } }"""
_START = """mutation($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) { __typename
              ... on PythonError { message } } }"""
_STOP = """mutation($id: String!) { stopRunningSchedule(id: $id) { __typename ... on PythonError { message } } }"""
_INSTIGATION = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
                      schedules { name scheduleState { status } } sensors { name sensorState { status } } } } } }"""


@dataclass(frozen=True)
class Run:
    """A run as its page shows it."""

    run_id: str
    status: str
    tags: dict[str, str]
    created: float
    started: float | None
    ended: float | None

    @property
    def has_ended(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class DagsterClient:
    """The UI of running services; ``services`` if they are this process's own."""

    url: str
    services: DagsterServices | None = None
    forgotten: frozenset[str] = frozenset()  # runs that are not shown
    at_first: dict[str, str] = field(default_factory=dict)  # what started() was when the services were new

    def ask(self, query: str, **variables: object) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def launch(self, job: str = "agg_master", config: dict[str, object] | None = None) -> str:
        """Launch a job as the Launchpad does, with this config of its first op; the id of the run."""
        op = {"agg_master": "select_due", "retention": "delete_expired"}[job]
        params = {
            "selector": _REPOSITORY | {"jobName": job},
            "runConfigData": {"ops": {op: {"config": config or {}}}},
        }
        return self._launched(self.ask(_LAUNCH, params=params)["launchRun"])

    def reexecute_from_failure(self, run_id: str) -> str:
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        return self._launched(self.ask(_REEXECUTE, params=params)["launchRunReexecution"])

    def terminate(self, run_id: str) -> None:
        answer = self.ask(_TERMINATE, run=run_id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def runs(self, **tags: str) -> list[Run]:
        """Runs that carry these tags, the newest first; a tag's agg/ is left out: ``runs(rerun_of=run_id)``."""
        wanted = [{"key": f"agg/{key}", "value": value} for key, value in tags.items()]
        found = self.ask(_RUNS, filter={"tags": wanted})["runsOrError"]["results"]
        return [
            Run(
                r["runId"],
                r["status"],
                {t["key"]: t["value"] for t in r["tags"]},
                r["creationTime"],
                r["startTime"],
                r["endTime"],
            )
            for r in found
            if r["runId"] not in self.forgotten
        ]

    def runs_of_backfill(self, backfill_id: str) -> list[Run]:
        return [run for run in self.runs() if run.tags.get("dagster/backfill") == backfill_id]

    def run(self, run_id: str) -> Run:
        (found,) = [run for run in self.runs() if run.run_id == run_id]
        return found

    def wait_for_end(self, run_id: str) -> Run:
        return self.wait(lambda: (run := self.run(run_id)).has_ended and run, f"run {run_id} ends")

    def events(self, run_id: str) -> list[dict[str, Any]]:
        return self.ask(_EVENTS, run=run_id)["logsForRun"]["events"]

    def started(self) -> dict[str, str]:
        """Schedules and sensors by name: RUNNING or STOPPED."""
        nodes = self.ask(_INSTIGATION)["repositoriesOrError"]["nodes"]
        return {
            one["name"]: (one.get("scheduleState") or one.get("sensorState"))["status"]
            for node in nodes
            for one in (*node["schedules"], *node["sensors"])
        }

    def start_schedule(self, name: str) -> None:
        answer = self.ask(_START, selector=_REPOSITORY | {"scheduleName": name})["startSchedule"]
        assert answer["__typename"] == "ScheduleStateResult", answer

    def stop_schedule(self, name: str) -> None:
        schedule = self.ask(_SCHEDULE, selector=_REPOSITORY | {"scheduleName": name})["scheduleOrError"]
        answer = self.ask(_STOP, id=schedule["scheduleState"]["id"])["stopRunningSchedule"]
        assert answer["__typename"] == "ScheduleStateResult", answer

    def has_ticked(self, sensor: str) -> bool:
        """Whether all runs have ended, and the sensor has ticked since then."""
        runs = self.runs()
        selector = _REPOSITORY | {"sensorName": sensor}
        ticks = self.ask(_SENSOR_TICKS, selector=selector)["sensorOrError"]["sensorState"]["ticks"]
        ended = max((run.ended or run.created for run in runs), default=0.0)
        return all(run.has_ended for run in runs) and any(
            tick["status"] in ("SKIPPED", "SUCCESS") and tick["timestamp"] > ended for tick in ticks
        )

    def launch_when_possible(self, config: dict[str, object] | None = None) -> str:
        """Launch a tick as soon as the code server, which was started again just now, can be reached."""

        def tried() -> str | None:
            with contextlib.suppress(urllib.error.HTTPError, AssertionError):
                return self.launch(config=config)
            return None

        return str(self.wait(tried, "a run can be launched"))

    def wait(self, come_true: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
        """Look again and again until something true comes back."""
        deadline = time.monotonic() + patience_s
        while not (found := come_true()):
            assert not (self.services and self.services.supervisor.restarted()), "a Dagster process ended by itself"
            assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
            time.sleep(0.4)  # a query costs the webserver a tenth of that
        return found

    @staticmethod
    def _launched(answer: dict[str, Any]) -> str:
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])
