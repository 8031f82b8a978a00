"""What all methods of the gateway share: the way to the database, and the check that it is one that we can use."""

from collections.abc import Collection
from typing import TypeVar

from agg_pipeline.errors import PermanentError
from agg_pipeline.transport import Transport, retries

T = TypeVar("T")

CONTRACT = 1
"""Version of the database functions that this package calls (``agg_contract``)."""


class Calls:
    """Calls of database functions over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def check_contract(self) -> None:
        """Raises PermanentError that names the command to run if the database is not one that this package can use."""
        try:
            version = self._call("agg_contract", int)
        except PermanentError as exc:
            if exc.code not in ("PGRST202", "42883"):
                raise
            version = 0
        if version < CONTRACT:
            found = "has none of our functions" if version == 0 else f"is at contract {version}"
            raise PermanentError(
                "agg_contract",
                "contract",
                f"the database {found}, this package needs {CONTRACT}",
                "Run `agg-pipeline migrate` against it.",
            )

    def close(self) -> None:
        self._transport.close()

    def _call(self, function: str, returns: type[T], *, left_to_caller: Collection[str] = (), **params: object) -> T:
        return retries.call(self._transport, function, returns, params, left_to_caller)
