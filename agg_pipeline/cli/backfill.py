"""The command backfill: launches a run in Dagster through the API of its UI, and follows it."""

import datetime as dt
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.markdown import Markdown
from rich.progress import Progress

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.cli.arguments import Symbols, parse_day, parse_timeframe
from agg_pipeline.cli.instance_lock import holder_of
from agg_pipeline.cli.target import ROOT
from agg_pipeline.market.timeframes import LADDER
from agg_pipeline.orchestration import tags
from agg_pipeline.orchestration.days import FIRST_DAY
from agg_pipeline.settings import load_settings, variables

_LAUNCH = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } ... on UnauthorizedError { message }
  ... on RunConfigValidationInvalid { errors { message } } ... on PipelineNotFoundError { message }
  ... on InvalidSubsetError { message } } }"""
_LOCATIONS = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  location { name } assetNodes { assetKey { path } } } } } }"""
_RUN = """query($run: ID!) { runOrError(runId: $run) { ... on Run { status tags { key value } } } }"""
_LOG = """query($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events {
  ... on LogMessageEvent { message }
  ... on ExecutionStepFailureEvent { failureMetadata { description } error { message } }
} } } }"""


@command("backfill")
def backfill(
    begin: Annotated[str, typer.Option("--from", help="First day, UTC: 2026-01-05.")],
    end: Annotated[str, typer.Option("--to", help="Last day, UTC, included.")],
    symbols: Symbols = None,
    timeframes: Annotated[
        list[str] | None,
        typer.Option("--timeframe", help="Only this timeframe and those above; repeat for more."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would change.")] = False,
    ui: Annotated[
        str | None,
        typer.Option(help="Address of the UI. Default: DAGSTER_UI, else that of `agg-pipeline up`."),
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder of the embedded stack.")] = ROOT,
) -> None:
    """Build and rebuild the bars of a range of days, as one run in Dagster; show its progress and result."""
    first, last = parse_day(begin, "--from"), parse_day(end, "--to")
    if last < first:
        raise CommandError(f"--to {last} is before --from {first}.")
    if first < FIRST_DAY:
        raise CommandError(
            f"--from {first} is before {FIRST_DAY}, the first day that Dagster can pick. "
            "For bars from before it: agg-pipeline tick, then agg-pipeline rebuild."
        )
    chosen = [parse_timeframe(name).value for name in timeframes or [t.value for t in LADDER]]
    address = ui or variables().get("DAGSTER_UI") or (holder_of(root) or {}).get("ui")
    if not address:
        raise CommandError(f"No Dagster UI: nothing runs in {root}. Start it with `agg-pipeline up`, or pass --ui.")
    with httpx.Client(base_url=str(address), timeout=60, trust_env=False) as http:
        run_id = _launch(http, chosen, first, last, {"symbols": symbols or None, "dry_run": dry_run})
        console.print(f"{address}/runs/{run_id}", highlight=False, soft_wrap=True)
        status = _follow(http, run_id)
        table, failure = _result(http, run_id)
    if table:
        console.print(Markdown(table))
    if status != "SUCCESS":
        raise CommandError(failure or f"The run ended as {status}; its page has the reason.")


def _launch(http: httpx.Client, timeframes: list[str], first: dt.date, last: dt.date, config: dict[str, object]) -> str:
    bounds = {"start": first.isoformat(), "end": last.isoformat()}
    location, assets = _location(http)
    params = {
        "selector": {
            "repositoryLocationName": location,
            "repositoryName": "__repository__",
            "jobName": "__ASSET_JOB",
            "assetSelection": [{"path": assets[timeframe]} for timeframe in timeframes],
        },
        "runConfigData": {"ops": {"backfill_bars": {"config": {k: v for k, v in config.items() if v is not None}}}},
        "executionMetadata": {
            "tags": [{"key": f"dagster/asset_partition_range_{edge}", "value": day} for edge, day in bounds.items()]
        },
    }
    answer = _ask(http, _LAUNCH, params=params)["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        why = answer.get("message") or "; ".join(error["message"] for error in answer.get("errors", []))
        raise CommandError(f"Dagster did not launch the backfill. {why or answer['__typename']}")
    return str(answer["run"]["runId"])


def _location(http: httpx.Client) -> tuple[str, dict[str, list[str]]]:
    """Code location of the environment (where the UI serves only one, that one), and its assets by timeframe."""
    nodes = _ask(http, _LOCATIONS)["repositoriesOrError"].get("nodes", [])
    by_name = {
        node["location"]["name"]: {
            asset["assetKey"]["path"][-1].removeprefix("bars_"): asset["assetKey"]["path"]
            for asset in node["assetNodes"]
        }
        for node in nodes
    }
    names = sorted(by_name)
    wanted = load_settings().env_name.value.lower()
    if len(names) != 1 and wanted not in names:
        raise CommandError(
            f"The Dagster UI at {http.base_url} serves {', '.join(names) or 'no code location yet'}, but not {wanted}; "
            "set ENV_NAME to one that it serves."
        )
    name = names[0] if len(names) == 1 else wanted
    return name, by_name[name]


def _follow(http: httpx.Client, run_id: str) -> str:
    """Show the progress until the run ends; return its status."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("Backfill", total=100)
        while True:
            run = _ask(http, _RUN, run=run_id)["runOrError"]
            done = next((tag["value"] for tag in run["tags"] if tag["key"] == tags.PROGRESS), "0 %")
            progress.update(bar, completed=int(done.split()[0]), description=f"Backfill ({run['status'].lower()})")
            if run["status"] in ("SUCCESS", "FAILURE", "CANCELED"):
                return str(run["status"])
            time.sleep(0.5)


def _result(http: httpx.Client, run_id: str) -> tuple[str | None, str | None]:
    """The table in the log of the run, and the reason of its failure; None where there is none."""
    table = failure = None
    for event in _ask(http, _LOG, run=run_id)["logsForRun"]["events"]:
        if (message := event.get("message") or "").startswith(("What was done:", "What would change:")):
            table = message
        if event.get("failureMetadata") or event.get("error"):
            failure = (event.get("failureMetadata") or {}).get("description") or event["error"]["message"]
    return table, failure


def _ask(http: httpx.Client, query: str, **variables: object) -> Any:
    try:
        answer = http.post("/graphql", json={"query": query, "variables": variables})
        answer.raise_for_status()
        found = answer.json()
    except (httpx.HTTPError, ValueError) as exc:
        raise CommandError(f"The Dagster UI at {http.base_url} did not answer: {exc}") from None
    if "errors" in found:
        raise CommandError(f"The Dagster UI at {http.base_url} refused: {found['errors'][0]['message']}")
    return found["data"]
