"""One Supabase project per environment, as a Dagster resource."""

import contextlib
from collections.abc import Iterator

import dagster as dg
from pydantic import Field, PrivateAttr

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.transport import open_transport
from agg_pipeline.settings import Environment, variable_for, variables

_LOOKED_AT = 100  # due tasks


class SupabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """One environment's Supabase project. Secrets stay EnvVar until a run starts, so definitions load without them."""

    environment: str = Field(description="DEV, TEST, STAGE or PROD.")
    url: str = Field(description="https://<project>.supabase.co, or postgresql://... for a direct connection.")
    service_role_key: str = Field(description="Key of the role service_role.")
    rest_path: str = Field(
        default="/rest/v1", description="Path of the REST API below the URL; / for a bare PostgREST."
    )
    timeout_s: float = Field(
        default=30.0,
        gt=0,
        description="Read timeout in seconds; statement_timeout of the role < this < length of a lease.",
    )

    _gateway: AggGateway | None = PrivateAttr(None)

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["SupabaseResource"]:
        """One client for all steps of a process; its sockets close with the run."""
        with self.connect() as gateway:
            self._gateway = gateway
            try:
                yield self
            finally:
                self._gateway = None

    @property
    def gateway(self) -> AggGateway:
        """The run's gateway. Only inside a run; elsewhere use connect()."""
        if self._gateway is None:
            raise RuntimeError("SupabaseResource.gateway is open only while a run executes; use connect() elsewhere.")
        return self._gateway

    @contextlib.contextmanager
    def connect(self) -> Iterator[AggGateway]:
        """A gateway of its own, for schedules, sensors and commands."""
        gateway = AggGateway(
            open_transport(self.url, self.service_role_key, rest_path=self.rest_path, timeout_s=self.timeout_s)
        )
        try:
            yield gateway
        finally:
            gateway.close()

    def has_due_tasks(self, *, stale_seconds: int) -> bool:
        """Whether a tick would find anything to do now. Raises GatewayError."""
        with self.connect() as gateway:
            gateway.check_contract()
            return bool(gateway.due_tasks(self.environment, now=None, limit=1, stale_seconds=stale_seconds))

    def can_get_on(self, *, stale_seconds: int) -> bool:
        """Whether a tick would find anything to do now, other than for symbols with a task that stands still.

        Those wait for the schedule: a run that starts at once leaves them where they are again. Raises GatewayError.
        """
        with self.connect() as gateway:
            gateway.check_contract()
            due = gateway.due_tasks(self.environment, now=None, limit=_LOOKED_AT, stale_seconds=stale_seconds)
            symbols = {task.symbol for task in due}
            stalled = {t.symbol for t in gateway.health(sorted(symbols)) if t.state == "stalled"} if due else set()
            return bool(symbols - stalled)


def resources_for(environment: Environment) -> dict[str, SupabaseResource]:
    """Resources of one environment. A variable with the suffix _<ENV> wins, so that prod cannot borrow dev's URL."""
    return {
        "supabase": SupabaseResource(
            environment=environment.value,
            url=dg.EnvVar(variable_for("SUPABASE_URL", environment)),
            service_role_key=_key(environment),
            rest_path=variables().get(variable_for("SUPABASE_REST_PATH", environment)) or "/rest/v1",
        )
    }


def _key(environment: Environment) -> str:
    """The variable of the key; nothing where a database URL with a password in it needs none."""
    key = variable_for("SUPABASE_SERVICE_ROLE_KEY", environment)
    url = variables().get(variable_for("SUPABASE_URL", environment)) or ""
    return "" if url.startswith(("postgresql://", "postgres://")) and not variables().get(key) else dg.EnvVar(key)
