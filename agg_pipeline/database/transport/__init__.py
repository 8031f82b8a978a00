"""Transports that call a database function by name: Supabase's REST API, or a database URL.

Does not belong here: names of functions and the models of their JSON (gateway).
"""

from typing import Protocol


class Transport(Protocol):
    """A connection to the database functions. Every failure is raised as a GatewayError."""

    def call(self, function: str, params: dict[str, object]) -> object:
        """Call ``public.<function>``. Returns its JSON: an object, a scalar, or a list for a set of rows."""

    def functions(self) -> frozenset[str]:
        """Names of the functions that can be called. Raises GatewayError if the server does not list them."""

    def close(self) -> None:
        """Close the connections."""


def open_transport(url: str, key: str, *, rest_path: str = "/rest/v1", timeout_s: float = 30.0) -> Transport:
    """Open the transport for a URL: ``postgresql://`` connects to the database, ``http(s)://`` to the REST API.

    Args:
        key: service_role key; ignored with a database URL, which contains its own password.
        rest_path: path of the REST API below the URL; ``/`` for PostgREST without Supabase.
        timeout_s: read timeout. Longer than the role's statement_timeout (8 s on Supabase), so that the database stops
            first and returns its reason; shorter than a lease, so that the task is still leased after a timeout.
    """
    # Imported here, since each client takes half a second to load and a process needs only one.
    if url.startswith(("postgresql://", "postgres://")):
        from agg_pipeline.database.transport.postgres import PostgresTransport

        return PostgresTransport(url, timeout_s=timeout_s)
    from agg_pipeline.database.transport.rest import RestTransport

    return RestTransport(url, key, rest_path=rest_path, timeout_s=timeout_s)
