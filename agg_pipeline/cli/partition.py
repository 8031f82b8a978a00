"""The command partition."""

from typing import Annotated

import typer

from agg_pipeline.cli.app import command, console
from agg_pipeline.cli.arguments import DatabaseUrl, Root
from agg_pipeline.cli.target import ROOT, owner_dsn
from agg_pipeline.database import partitioning as partitions


@command("partition")
def partition(
    do: Annotated[bool, typer.Option("--do", help="Do it. Default: only show what would be done.")] = False,
    database_url: DatabaseUrl = None,
    root: Root = ROOT,
) -> None:
    """Partition the bars tables by month, from the next month on; ingest and ticks continue meanwhile."""
    dsn = owner_dsn(database_url, root)
    for one in partitions.plan(dsn):
        what = (
            "is partitioned"
            if one.is_partitioned
            else f"about {one.rows:,} rows, {one.megabytes:,} MB: all bars before {one.until:%Y-%m-%d} stay in one "
            "partition, each later month gets its own"
        )
        console.print(f"{one.table}: {what}.", highlight=False)
    if not do:
        console.print("Nothing was changed; repeat with --do.")
        return
    done = partitions.partition(dsn, on_step=lambda step: console.print(f"  {step}", highlight=False))
    console.print(f"Partitioned: {', '.join(done)}." if done else "Nothing to do.")
