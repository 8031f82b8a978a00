"""One Supabase project per environment, as a Dagster resource."""

import contextlib
from collections.abc import Iterator
from functools import partial

import dagster as dg
from pydantic import Field, PrivateAttr

from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.database.transport import open_transport
from agg_pipeline.orchestration.heartbeat import beating
from agg_pipeline.settings import Environment, variable_for, variables

_BEAT_TIMEOUT_S = 3.0
_MAX_DUE_TASKS = 100  # that has_runnable_tasks considers


class SupabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Supabase project of one environment. Its secrets stay dg.EnvVar, so that Dagster stores none of them."""

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
        """One client for all steps of a process; its connections close with the run."""
        with self.connect() as gateway, self._beating(context):
            self._gateway = gateway
            try:
                yield self
            finally:
                self._gateway = None

    def _beating(self, context: dg.InitResourceContext) -> contextlib.AbstractContextManager[None]:
        """Signs of life while a run executes; none for schedules and sensors."""
        if context.run is None:
            return contextlib.nullcontext()
        return beating(partial(self.connect, timeout_s=_BEAT_TIMEOUT_S), context.run.run_id, self.environment)

    @property
    def gateway(self) -> AggGateway:
        """Gateway of the run. Raises RuntimeError outside a run; use connect() there."""
        if self._gateway is None:
            raise RuntimeError("SupabaseResource.gateway is open only while a run executes; use connect() elsewhere.")
        return self._gateway

    @contextlib.contextmanager
    def connect(self, *, timeout_s: float | None = None) -> Iterator[AggGateway]:
        """Open a gateway of its own, as schedules and sensors do."""
        timeout_s = timeout_s or self.timeout_s
        gateway = AggGateway(
            open_transport(self.url, self.service_role_key, rest_path=self.rest_path, timeout_s=timeout_s)
        )
        try:
            yield gateway
        finally:
            gateway.close()

    def has_due_tasks(self, *, stale_seconds: int) -> bool:
        """Whether tasks are due now. Raises GatewayError."""
        with self.connect() as gateway:
            gateway.check_contract()
            due = gateway.due_tasks(self.environment, now=None, limit=1, stale_seconds=stale_seconds)
            return any(task.error is None for task in due)

    def has_runnable_tasks(self, *, stale_seconds: int) -> bool:
        """Whether tasks are due now of symbols without a stalled task. Raises GatewayError.

        Symbols with a stalled task are left to the schedule: a run that starts at once would not move their cursors.
        """
        with self.connect() as gateway:
            gateway.check_contract()
            due = gateway.due_tasks(self.environment, now=None, limit=_MAX_DUE_TASKS, stale_seconds=stale_seconds)
            symbols = {task.symbol for task in due if task.error is None}
            stalled = {t.symbol for t in gateway.health(sorted(symbols)) if t.state == "stalled"} if symbols else set()
            return bool(symbols - stalled)


def resources_for(environment: Environment) -> dict[str, SupabaseResource]:
    """Resources of one environment. A variable with the suffix _<ENV> wins over the one without."""
    return {
        "supabase": SupabaseResource(
            environment=environment.value,
            url=dg.EnvVar(variable_for("SUPABASE_URL", environment)),
            service_role_key=_key(environment),
            rest_path=variables().get(variable_for("SUPABASE_REST_PATH", environment)) or "/rest/v1",
        )
    }


def _key(environment: Environment) -> str:
    """The variable that holds the key; empty with a database URL, which carries a password, if no key is set."""
    key = variable_for("SUPABASE_SERVICE_ROLE_KEY", environment)
    url = variables().get(variable_for("SUPABASE_URL", environment)) or ""
    return "" if url.startswith(("postgresql://", "postgres://")) and not variables().get(key) else dg.EnvVar(key)
