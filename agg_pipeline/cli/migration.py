"""The command migration, for developers of this package: `make migration NAME=topic`."""

from typing import Annotated

import psycopg
import typer

from agg_pipeline.cli.app import CommandError, command, console
from agg_pipeline.database import fingerprints
from agg_pipeline.database.catalogue import read_catalogue
from agg_pipeline.database.connection import connect as open_connection
from agg_pipeline.database.migrate import migrate
from agg_pipeline.database.migration_writer import TOPIC, draft_migration, write_migration
from agg_pipeline.database.schemas import apply_schemas
from agg_pipeline.embedded import create_database, temporary


@command("migration", hidden=True)
def migration(topic: Annotated[str, typer.Argument(help="What changes, as `health_column`.")]) -> None:
    """Write the migration that leads from the migrations to supabase/schemas, and the fingerprints for doctor."""
    if not TOPIC.fullmatch(topic):
        raise CommandError(f"{topic!r} is no topic: use lower case letters, digits and _, and no fn_ at the start.")
    with temporary() as stack:
        schemas = create_database(stack.dsn, "schemas")
        try:
            apply_schemas(schemas)
        except psycopg.Error as exc:
            raise CommandError(f"supabase/schemas, {exc.__notes__[-1]}: {str(exc).strip()}") from None
        migrate(stack.dsn)
        draft = draft_migration(stack.dsn, schemas)
        with open_connection(schemas) as connection:
            if fingerprints.save(read_catalogue(connection)):
                console.print(f"Written: {fingerprints.PATH.name}", highlight=False)
    if not draft:
        console.print("No migration is needed: the migrations give what supabase/schemas says.", highlight=False)
        return
    console.print(f"Written: {write_migration(topic, draft).name}", highlight=False)
    if draft.by_hand:
        console.print("To be written into it by hand:", highlight=False)
        for difference in draft.by_hand:
            console.print(f"  {difference}", highlight=False, soft_wrap=True)
