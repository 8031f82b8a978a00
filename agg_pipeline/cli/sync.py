"""The command sync."""

from agg_pipeline.cli.app import command, console, errors
from agg_pipeline.cli.arguments import Root
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.ingest.sessions import fill_missing
from agg_pipeline.settings import load_settings


@command("sync")
def sync(root: Root = ROOT) -> None:
    """Create what active assets of the registry lack: tasks, sessions of their calendar. Each tick does so too."""
    with connect(root) as gateway:
        result = gateway.sync(load_settings().env_name.value)
        failures = fill_missing(gateway)
    for line in failures:
        errors.print(line, style="yellow", highlight=False, soft_wrap=True)
    console.print(f"{result.tasks_created} tasks created, {result.tasks_updated} updated.")
