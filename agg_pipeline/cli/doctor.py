"""The command doctor: state of a project, findings and their remedies."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from agg_pipeline.cli.app import CommandError, command, console, styled
from agg_pipeline.cli.arguments import Root, parse_time
from agg_pipeline.cli.target import ROOT, connect, find_target, is_hosted
from agg_pipeline.database.transport import open_transport
from agg_pipeline.doctor import Examination, Finding, Severity, examine
from agg_pipeline.errors import GatewayError
from agg_pipeline.settings import load_settings, variable_for, variables

_STYLE = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


@command("doctor")
def doctor(
    database_url: Annotated[
        str | None, typer.Option(help="postgresql:// of the project. Default: SUPABASE_DB_URL, else SUPABASE_URL.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="ISO time, UTC: examine rows from there on. Default: all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    root: Root = ROOT,
) -> None:
    """Examine a project, before or after `migrate`. Changes nothing; exit code 1 if there is something to do."""
    since = parse_time(begin, "--from") if begin else None
    url, key, rest_path = _target(database_url, root)
    with contextlib.closing(open_transport(url, key, rest_path=rest_path)) as transport:
        found = examine(transport, dsn=url if url.startswith("postgres") else None, since=since)
    if database_url is None and not key and not found.pending:  # an URL given by hand may be of another project
        found = replace(found, findings=[*_access_findings(), *found.findings])
    if as_json:
        console.print_json(json.dumps(_as_json(found)), ensure_ascii=True)
    else:
        _show(found)
    if not found.is_sound:
        raise typer.Exit(1)


def _target(database_url: str | None, root: Path) -> tuple[str, str, str]:
    """Address, key and path of the REST API. A database URL sees more and wins."""
    environment = load_settings().env_name
    if direct := database_url or variables().get(variable_for("SUPABASE_DB_URL", environment)):
        if not direct.startswith(("postgresql://", "postgres://")):  # it may hold a password, so it is not shown
            raise CommandError("The database URL is none: write it as postgresql://user:password@host:5432/database.")
        return direct, "", ""
    target = find_target(root)
    return target.url, target.key, target.rest_path


def _access_findings() -> Iterator[Finding]:
    """Whether runs get in: they come with SUPABASE_URL and its key, not with the database URL."""
    environment = load_settings().env_name
    if not is_hosted(environment):
        return
    try:
        with connect(ROOT):
            pass
    except GatewayError as exc:
        yield Finding(
            Severity.ERROR, "access", f"runs cannot use {variable_for('SUPABASE_URL', environment)}: {exc}",
            f"Set {variable_for('SUPABASE_SERVICE_ROLE_KEY', environment)} and the URL right, and restart what runs.",
        )  # fmt: skip


def _as_json(found: Examination) -> dict[str, object]:
    return {
        "state": found.state,
        "sound": found.is_sound,
        "findings": [asdict(finding) for finding in found.findings],
        "pending": [migration.path.name for migration in found.pending],
    }


def _show(found: Examination) -> None:
    console.print(f"This is {found.state}.", highlight=False, soft_wrap=True)
    for finding in found.findings:
        style = _STYLE[finding.severity]
        line = styled((f"{finding.severity:>7}", style), f" {finding.about}: {finding.found}")
        console.print(line, highlight=False, soft_wrap=True)
        console.print(f"        -> {finding.remedy}", highlight=False, soft_wrap=True)
    if found.pending:
        console.print(f"`agg-pipeline migrate` would apply {len(found.pending)} files.", highlight=False)
    console.print("Sound." if found.is_sound else "There is something to do.")
