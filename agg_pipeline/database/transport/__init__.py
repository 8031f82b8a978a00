"""Two ways to call a database function by name: over Supabase's REST API, or over a database URL.

Does not belong here: names of functions and what their JSON means (gateway).
"""

from typing import Protocol


class Transport(Protocol):
    """Calls one function of the database; every failure leaves as a GatewayError."""

    def call(self, function: str, params: dict[str, object]) -> object:
        """JSON that ``public.<function>`` returns: an object, a scalar, or a list for a set of rows."""

    def functions(self) -> frozenset[str]:
        """Names of the functions that can be called; GatewayError if the other side does not say."""

    def close(self) -> None:
        """Gives up the connections."""


def open_transport(url: str, key: str, *, rest_path: str = "/rest/v1", timeout_s: float = 30.0) -> Transport:
    """The transport that an address asks for: ``postgresql://`` goes straight to the database, ``http(s)://`` to REST.

    Args:
        key: service_role key; not used with a database URL, which carries its own password.
        rest_path: where the REST API lives below the URL; ``/`` for a bare PostgREST.
        timeout_s: read timeout. Statement < read < lease: longer than the role's statement_timeout (8 s on Supabase),
            so that the database gives up first and says why; shorter than a lease, so that the task is still ours.
    """
    # Imported here: each client costs half a second, and a process needs one of them.
    if url.startswith(("postgresql://", "postgres://")):
        from agg_pipeline.database.transport.postgres import PostgresTransport

        return PostgresTransport(url, timeout_s=timeout_s)
    from agg_pipeline.database.transport.rest import RestTransport

    return RestTransport(url, key, rest_path=rest_path, timeout_s=timeout_s)
