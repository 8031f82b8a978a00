"""Base of the gateway: calls a database function over a transport, and checks the version of the database."""

from collections.abc import Collection
from typing import TypeVar

from agg_pipeline.database.transport import Transport, retries
from agg_pipeline.errors import GatewayError, PermanentError

T = TypeVar("T")

CONTRACT = 4
"""Version of the database functions that this package requires, as ``agg_contract`` returns it."""

FUNCTIONS = frozenset(
    {
        "agg_bar_summary",
        "agg_bars_by_day",
        "agg_bars_page",
        "agg_calendars",
        "agg_contract",
        "agg_explain",
        "agg_find_damage",
        "agg_forget_touched_days",
        "agg_finish_batch",
        "agg_gap_report",
        "agg_due_tasks",
        "agg_health",
        "agg_load_bars",
        "agg_mend_cursors",
        "agg_misplaced_rows",
        "agg_partitions_ahead",
        "agg_pause_task",
        "agg_rebuild_range",
        "agg_refresh_calendar",
        "agg_register_asset",
        "agg_release",
        "agg_resume_task",
        "agg_set_calendar",
        "agg_start_batch",
        "agg_unreported_days",
        "catchup_aggregation_batch",
        "ops_heartbeat",
        "ops_heartbeats_of",
        "ops_report_run",
        "ops_runlog_checkpoint",
        "ops_runlog_checkpoints",
        "ops_runlog_expire",
        "ops_runlog_finish",
        "ops_runlog_open",
        "ops_runlog_prune",
        "ops_runlog_recent",
        "ops_runlog_start",
        "sync_agg_state_from_registry",
    }
)
"""Every database function that the gateway calls."""


class Calls:
    """Calls of database functions over one transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def check_contract(self) -> None:
        """Raise PermanentError, which names the command to run, if the database is older than CONTRACT."""
        try:
            version = self._call("agg_contract", int)
        except PermanentError as exc:
            if exc.code not in ("PGRST202", "42883"):
                raise
            version = 0
        if version < CONTRACT:
            found = "is not migrated" if version == 0 else f"is at contract {version}"
            raise PermanentError(
                "agg_contract",
                "contract",
                f"the database {found}, this package needs contract {CONTRACT}{self._missing()}",
                "Run `agg-pipeline migrate` against it; `agg-pipeline doctor` shows what would change.",
            )

    def _missing(self) -> str:
        """Names of the functions that the database lacks, to end a sentence with; empty if unknown."""
        try:
            missing = sorted(FUNCTIONS - self._transport.functions())
        except GatewayError:  # the API publishes no description of itself
            return ""
        return f"; {len(missing)} of {len(FUNCTIONS)} functions are missing: {', '.join(missing)}" if missing else ""

    def close(self) -> None:
        self._transport.close()

    def _call(
        self,
        function: str,
        returns: type[T],
        *,
        left_to_caller: Collection[str] = (),
        attempts: int | None = None,
        **params: object,
    ) -> T:
        return retries.call(self._transport, function, returns, params, left_to_caller, attempts)
