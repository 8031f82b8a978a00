"""The command sync."""

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import Root
from agg_pipeline.cli.target import ROOT, connect
from agg_pipeline.settings import load_settings


@command("sync")
def sync(root: Root = ROOT) -> None:
    """Create missing tasks of the active assets in the registry. Each tick does so too."""
    with connect(root) as gateway:
        result = gateway.sync(load_settings().env_name.value)
    console.print(f"{result.tasks_created} tasks created, {result.tasks_updated} updated.")
