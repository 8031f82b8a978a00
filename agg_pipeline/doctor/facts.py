"""Facts of a project, as read over a database URL or the REST API."""

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
"""Tables of the predecessor or of this package that are examined."""

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
"""Functions that the predecessor's worker calls: their parameters of type text, and one of another type."""


@dataclass(frozen=True)
class Asset:
    """A row of core_asset_registry_all."""

    symbol: str
    asset_class: str | None
    is_active: bool
    trading_calendar: str | None


@dataclass(frozen=True)
class TaskFacts:
    """A row of data_agg_state, with the raw bars around its cursor.

    Attributes:
        base: timeframe of the asset's raw bars; None: there is no asset.
        start: windows that start before it are not built.
        is_possible: whether cursor and start are times between 1900 and 2200; if not, these are as if there were none.
        newest: start of the newest raw bar; None: there is none.
        is_empty_at_cursor: whether the window at the cursor has no raw bar.
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
    is_possible: bool = True

    def __str__(self) -> str:
        return f"{self.symbol}/{self.timeframe}"


@dataclass(frozen=True)
class InvalidRows:
    """Count of rows of one table and task that are invalid by themselves, for one reason."""

    table: str
    symbol: str
    timeframe: str
    reason: str
    rows: int


@dataclass(frozen=True)
class Facts:
    """Facts of a project at one time. None: unknown, since the REST API does not show it.

    Attributes:
        columns: names of columns, for each of TABLES that exists.
        functions: names of parameters of each function in schema public, one tuple per overload.
        overloaded: functions that exist more than once, so that the REST API refuses a call.
        contract: version of the functions of this package; 0: there are none.
        applied_versions: versions of the recorded migrations.
        public_grants: tables and functions of the pipeline that anon or authenticated may use.
        extra_grants: privileges of service_role that it does not need, by table.
        without_rls: tables without row level security.
        foreign_triggers: "name on table" of triggers of others on tables that only the pipeline writes.
        fingerprints: of the definitions in schema public.
        has_broken_1h_function: whether aggregate_5m_to_1h_window is that of the predecessor's migration 010, which
            fails whenever it has a bar to store.
        invalid_rows: counts of invalid rows.
        not_checked: what could not be read, in words.
    """

    columns: Mapping[str, frozenset[str]]
    functions: Mapping[str, Sequence[tuple[str, ...]]]
    overloaded: frozenset[str]
    contract: int
    assets: Sequence[Asset] = ()
    tasks: Sequence[TaskFacts] = ()
    applied_versions: frozenset[str] | None = None
    public_grants: Sequence[str] | None = None
    extra_grants: Mapping[str, Sequence[str]] | None = None
    without_rls: Sequence[str] | None = None
    foreign_triggers: Sequence[str] | None = None
    fingerprints: Fingerprints | None = None
    has_broken_1h_function: bool | None = None
    invalid_rows: Sequence[InvalidRows] | None = None
    not_checked: Sequence[str] = field(default=())
