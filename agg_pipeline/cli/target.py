"""Which database a command talks to: the one that the environment names, else the embedded stack of this folder."""

import contextlib
import datetime as dt
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from agg_pipeline.cli.app import CommandError
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import running
from agg_pipeline.settings import Environment, SettingsError, load_settings, variable_for

ROOT = Path(".agg_pipeline")


def is_hosted(environment: Environment) -> bool:
    """True if the environment names a database. Raises SettingsError if it names only half of one."""
    url_variable, key_variable = (
        variable_for(name, environment) for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")
    )
    url, key = os.environ.get(url_variable), os.environ.get(key_variable)
    if url and url.startswith(("postgresql://", "postgres://")):
        os.environ.setdefault(key_variable, "not used with a database URL")
        return True
    if url and not url.startswith(("http://", "https://")):
        raise SettingsError(
            f"{url_variable} is not a URL; it should look like https://<project>.supabase.co or postgresql://..."
        )
    if bool(url) != bool(key):
        raise SettingsError(
            f"{key_variable if url else url_variable} is not set, but {url_variable if url else key_variable} is; "
            "set both, or neither for the embedded stack."
        )
    return bool(url)


def use_target(root: Path) -> Environment:
    """Make the environment variables name a database; which environment it is. Raises CommandError if there is none."""
    environment = load_settings().env_name
    if not is_hosted(environment):
        stack = running(root)
        if stack is None:
            raise CommandError(
                f"No database: nothing runs in {root}. Start it with `agg-pipeline up`, or set SUPABASE_URL and "
                "SUPABASE_SERVICE_ROLE_KEY for a hosted project."
            )
        os.environ.update(stack.environment())
    return environment


@contextlib.contextmanager
def connect(root: Path) -> Iterator[AggGateway]:
    """A gateway to the target, its contract checked."""
    environment = use_target(root)
    url, key = (os.environ[variable_for(name, environment)] for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY"))
    rest_path = os.environ.get(variable_for("SUPABASE_REST_PATH", environment), "/rest/v1")
    gateway = AggGateway(open_transport(url, key, rest_path=rest_path))
    with contextlib.closing(gateway):
        gateway.check_contract()
        yield gateway


def owner_dsn(database_url: str | None, root: Path) -> str:
    """URL with which tables can be changed: given, in the environment, or of the embedded stack."""
    environment = load_settings().env_name
    dsn = database_url or os.environ.get(variable_for("SUPABASE_DB_URL", environment))
    if not dsn and is_hosted(environment):
        url = os.environ[variable_for("SUPABASE_URL", environment)]
        if not url.startswith("postgres"):
            raise CommandError(
                "SUPABASE_DB_URL is not set. Changing tables takes a database URL (project settings, Connect, "
                "Session pooler); the REST API cannot do it."
            )
        dsn = url
    if not dsn:
        stack = running(root)
        if stack is None:
            raise CommandError(
                f"No database: nothing runs in {root}. Start it with `agg-pipeline up`, or set SUPABASE_DB_URL."
            )
        dsn = stack.dsn
    return dsn


def histories(health: Iterable[TaskHealth], symbols: list[str] | None) -> dict[str, tuple[dt.datetime, dt.datetime]]:
    """First window and cursor of each symbol, over its tasks. Raises CommandError that lists what there is."""
    found: dict[str, tuple[dt.datetime, dt.datetime]] = {}
    for task in health:
        first, cursor = task.first_window_utc, task.cursor_utc or task.first_window_utc
        before = found.get(task.symbol, (first, cursor))
        found[task.symbol] = (min(first, before[0]), max(cursor, before[1]))
    if unknown := sorted(set(symbols or []) - found.keys()):
        raise CommandError(f"There are no tasks of {', '.join(unknown)}. There are: {', '.join(found) or 'none'}.")
    return {symbol: found[symbol] for symbol in symbols} if symbols else found
