"""What was seen of a project: plain facts, whoever looked and however. What they mean: structure, content."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agg_pipeline.database.fingerprints import Fingerprints

TABLES = (
    "core_asset_registry_all",
    "data_bars",
    "derived_data_bars",
    "data_agg_state",
    "ops_runlog",
    "ops_issues",
    "quality_workerhealth",
)
"""Tables that a project of the predecessor or of ours may have."""

INGESTERS_TABLES = ("data_bars", "core_asset_registry_all")
"""Tables of an upgraded database that belong to the ingester, too: what service_role may do on them stays."""

PREDECESSOR_RPCS: Mapping[str, tuple[str, str]] = {
    "agg_get_due_tasks": ("p_env_name", "p_limit"),
    "agg_start": ("p_symbol, p_tf", "p_now_utc"),
    "agg_bootstrap_cursor": ("p_symbol, p_to_tf", "p_now_utc"),
    "catchup_aggregation_range": ("p_symbol, p_to_tf, p_start_cursor_utc", "p_max_windows"),
    "agg_finish": ("p_symbol, p_tf", "p_success"),
    "sync_agg_state_from_registry": ("p_env_name", "p_agg_start_utc"),
    "ops_runlog_start": ("p_job_name, p_trigger, p_env_name", "p_run_id"),
    "ops_runlog_checkpoint": ("p_checkpoint", "p_run_id"),
    "ops_runlog_finish": ("p_status", "p_run_id"),
    "ops_runlog_prune": ("p_job_name, p_trigger", "p_keep"),
}
"""The functions that the predecessor's worker calls: parameters that take any text, and one that does not."""


@dataclass(frozen=True)
class Asset:
    """A row of the registry, as far as it matters here."""

    symbol: str
    asset_class: str | None
    is_active: bool
    trading_calendar: str | None


@dataclass(frozen=True)
class TaskFacts:
    """A row of data_agg_state, and what its raw bars say about its cursor.

    Attributes:
        base: timeframe of the asset's raw bars; None: there is no asset.
        start: no window before it is built.
        newest: start of the newest raw bar.
    """

    symbol: str
    timeframe: str
    source_timeframe: str | None
    base: str | None
    start: dt.datetime
    cursor: dt.datetime | None
    status: str
    enabled: bool
    running_since: dt.datetime | None
    newest: dt.datetime | None
    is_empty_at_cursor: bool

    def __str__(self) -> str:
        return f"{self.symbol}/{self.timeframe}"


@dataclass(frozen=True)
class UnsoundRows:
    """Rows of one table that are wrong by themselves, for one reason."""

    table: str
    symbol: str
    timeframe: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Facts:
    """One look at a project. None: it could not be seen from there.

    Attributes:
        columns: of those of TABLES that exist.
        functions: arguments of each function of schema public, one tuple an overload.
        doubled: functions that exist more than once, so that a call over the REST API is refused.
        contract: version of our functions; 0: there are none.
        recorded: versions of the migrations that were applied.
        open_to_browsers: tables and functions of ours or the predecessor's that anon or authenticated may use.
        extra_grants: what service_role may do beyond what it needs, by table.
        without_rls: tables without row level security.
        triggers_of_others: "name on table" of those on tables that only we write.
        fingerprints: of what schema public is made of.
        has_hour_of_010: the function of the 1h bars is the one that fails whenever it has a bar to store.
    """

    columns: Mapping[str, frozenset[str]]
    functions: Mapping[str, Sequence[tuple[str, ...]]]
    doubled: frozenset[str]
    contract: int
    assets: Sequence[Asset] = ()
    tasks: Sequence[TaskFacts] = ()
    recorded: frozenset[str] | None = None
    open_to_browsers: Sequence[str] | None = None
    extra_grants: Mapping[str, Sequence[str]] | None = None
    without_rls: Sequence[str] | None = None
    triggers_of_others: Sequence[str] | None = None
    fingerprints: Fingerprints | None = None
    has_hour_of_010: bool | None = None
    unsound: Sequence[UnsoundRows] | None = None
    unseen: Sequence[str] = field(default=())
