"""Which database a command uses: the one that the environment names, else the embedded stack of this folder."""

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agg_pipeline.cli.app import CommandError
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.models.health import TaskHealth
from agg_pipeline.database.transport import open_transport
from agg_pipeline.embedded import Stack, running
from agg_pipeline.reading.extent import extent
from agg_pipeline.settings import Environment, SettingsError, load_settings, variable_for, variables

ROOT = Path(".agg_pipeline")
_MAX_NAMES = 20  # in an error message


@dataclass(frozen=True)
class Target:
    """A database, by the variables that name it; a child process that gets them uses the same one."""

    environment: Environment
    variables: Mapping[str, str] = field(repr=False)

    @classmethod
    def of_stack(cls, stack: Stack, environment: Environment) -> "Target":
        """An embedded stack, whatever the variables of this process name."""
        own = stack.environment()
        hidden = {f"{name}_{environment}" for name in own}
        inherited = {name: value for name, value in variables().items() if name not in hidden}
        return cls(environment, inherited | own | {"ENV_NAME": environment.value})

    def value(self, name: str, default: str = "") -> str:
        """Value of a variable of the database, with the environment's suffix where it is set."""
        return self.variables.get(variable_for(name, self.environment, self.variables)) or default

    @property
    def url(self) -> str:
        return self.value("SUPABASE_URL")

    @property
    def key(self) -> str:
        return self.value("SUPABASE_SERVICE_ROLE_KEY")

    @property
    def rest_path(self) -> str:
        return self.value("SUPABASE_REST_PATH", "/rest/v1")

    @contextlib.contextmanager
    def connect(self) -> Iterator[AggGateway]:
        """A gateway to the database. Raises GatewayError if it cannot be used by this version."""
        gateway = AggGateway(open_transport(self.url, self.key, rest_path=self.rest_path))
        with contextlib.closing(gateway):
            gateway.check_contract()
            yield gateway


def is_hosted(environment: Environment) -> bool:
    """True if the environment names a database. Raises SettingsError if it names only half of one."""
    url_variable, key_variable = (
        variable_for(name, environment) for name in ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")
    )
    url, key = variables().get(url_variable), variables().get(key_variable)
    if url and url.startswith(("postgresql://", "postgres://")):
        return True  # such a URL has its password in it
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


def find_target(root: Path) -> Target:
    """The database that the environment names, else the stack that runs in ``root``. Raises CommandError."""
    environment = load_settings().env_name
    if is_hosted(environment):
        return Target(environment, variables())
    if (stack := running(root)) is not None:
        return Target.of_stack(stack, environment)
    raise _nothing_runs(root, "SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY for a hosted project")


@contextlib.contextmanager
def connect(root: Path) -> Iterator[AggGateway]:
    """A gateway to the target. Raises CommandError or GatewayError if there is none that can be used."""
    with find_target(root).connect() as gateway:
        yield gateway


def owner_dsn(database_url: str | None, root: Path) -> str:
    """Database URL of the tables' owner: the given one, that of the environment, or that of the embedded stack."""
    environment = load_settings().env_name
    if dsn := database_url or variables().get(variable_for("SUPABASE_DB_URL", environment)):
        return dsn
    if is_hosted(environment):
        if (url := Target(environment, variables()).url).startswith("postgres"):
            return url
        raise CommandError(
            "SUPABASE_DB_URL is not set. Changing tables takes a database URL (project settings, Connect, "
            "Session pooler); the REST API cannot do it."
        )
    if (stack := running(root)) is not None:
        return stack.dsn
    raise _nothing_runs(root, "SUPABASE_DB_URL")


def _nothing_runs(root: Path, variable: str) -> CommandError:
    return CommandError(f"No database: nothing runs in {root}. Start it with `agg-pipeline up`, or set {variable}.")


def tasks_of(
    gateway: AggGateway, symbols: Sequence[str] | None = None, timeframe: str | None = None
) -> list[TaskHealth]:
    """Tasks of these symbols, None or empty: of all; with ``timeframe`` only those. Raises CommandError."""
    tasks = gateway.health(symbols)
    if unknown := sorted(set(symbols or []) - {task.symbol for task in tasks}):
        known = sorted({task.symbol for task in gateway.health()})
        raise CommandError(f"There are no tasks of {', '.join(unknown)}. There are: {_listed(known)}.")
    if timeframe is None:
        return tasks
    if not (chosen := [task for task in tasks if task.timeframe == timeframe]):
        raise CommandError(f"There is no {timeframe} task of {', '.join(symbols or [])}. There are: {_listed(tasks)}.")
    return chosen


def _listed(names: Sequence[object]) -> str:
    return (", ".join(map(str, names[:_MAX_NAMES])) + (", ..." if len(names) > _MAX_NAMES else "")) or "none"


def histories(gateway: AggGateway, symbols: Sequence[str] | None = None) -> dict[str, tuple[dt.datetime, dt.datetime]]:
    """First window of each symbol, and the end of its bars (``extent``). Raises CommandError if one has no tasks."""
    tasks: dict[str, list[TaskHealth]] = {}
    for task in tasks_of(gateway, symbols):
        tasks.setdefault(task.symbol, []).append(task)
    return {symbol: extent(tasks[symbol]) for symbol in symbols or tasks}
