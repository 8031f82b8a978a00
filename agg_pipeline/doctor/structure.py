"""Findings in the structure of a project: its version, functions, tables and grants."""

from collections.abc import Iterator, Sequence

from agg_pipeline.database.gateway import CONTRACT, FUNCTIONS
from agg_pipeline.database.migrate import Migration
from agg_pipeline.doctor.facts import INGESTERS_TABLES, Facts
from agg_pipeline.doctor.finding import AGAIN, MIGRATE, PLAN, Finding, Severity, join_names


def describe_state(facts: Facts) -> str:
    """State of the database in words: whose schema, which version."""
    if facts.contract >= CONTRACT:
        return f"agg_pipeline, contract {facts.contract}"
    if facts.contract:
        return f"an older agg_pipeline, contract {facts.contract} (this one needs {CONTRACT})"
    if facts.applied_versions and "lease_token" in facts.columns.get("data_agg_state", ()):
        return "a migration to agg_pipeline that was interrupted"
    if "data_agg_state" not in facts.columns:
        return "no aggregator yet" + (", but raw bars" if "data_bars" in facts.columns else ": an empty project")
    parts = ["before its phase 5" if _lacking_columns(facts) else "since its phase 5"]
    if "agg_finish" in facts.overloaded:
        parts.append("with two agg_finish")
    if facts.has_broken_1h_function:
        parts.append("with the 1h function of its migration 010")
    parts.append(f"health tables {_health_shape(facts)}")
    return f"the predecessor, {', '.join(parts)}"


def version_findings(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    """Missing functions, tables and columns, and pending migrations."""
    files = (
        f"{len(pending)} files are pending: {join_names([m.path.name for m in pending], 3)}"
        if pending
        else "no file is pending"
    )
    if facts.contract < CONTRACT:
        missing = sorted(FUNCTIONS - facts.functions.keys())
        yield Finding(
            Severity.ERROR,
            "version",
            f"this is {describe_state(facts)}; {len(missing)} functions that this package calls are missing: "
            f"{join_names(missing, 5)}. {files}",
            MIGRATE if pending else AGAIN,
        )
        if tables := sorted({"data_bars", "derived_data_bars", "data_agg_state", "ops_runlog"} - facts.columns.keys()):
            yield Finding(Severity.WARNING, "tables", f"missing: {', '.join(tables)}", f"{MIGRATE}, which makes them")
        if columns := _lacking_columns(facts):
            yield Finding(
                Severity.WARNING, "tables", f"data_agg_state lacks {', '.join(columns)}", f"{MIGRATE}, which adds them"
            )
        yield Finding(
            Severity.NOTE,
            "not checked",
            "bars against their source bars, which needs the functions of this package",
            f"{MIGRATE}, then {PLAN}, which writes nothing",
        )
    elif pending:
        yield Finding(Severity.WARNING, "version", files, MIGRATE)


def function_findings(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    """Functions that are overloaded, missing or known to fail."""
    remedy = MIGRATE if pending else AGAIN
    if facts.overloaded:
        yield Finding(
            Severity.ERROR,
            "functions",
            f"defined twice: {', '.join(sorted(facts.overloaded))}. The REST API refuses every call (PGRST203): "
            "the predecessor's tasks stay running while its runs report success",
            f"{remedy}, which leaves one of each",
        )
    if facts.contract >= CONTRACT and (missing := sorted(FUNCTIONS - facts.functions.keys())):
        yield Finding(Severity.ERROR, "functions", f"missing: {', '.join(missing)}", remedy)
    if facts.has_broken_1h_function and facts.contract < CONTRACT:
        yield Finding(
            Severity.ERROR,
            "functions",
            "aggregate_5m_to_1h_window fails at every hour for which it has a bar to store",
            MIGRATE,
        )


def grant_findings(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    """Grants to the public key, missing row level security, privileges of service_role that it does not need."""
    remedy = MIGRATE if pending else AGAIN
    if facts.public_grants:
        yield Finding(
            Severity.ERROR,
            "grants",
            f"anyone with the public key may use {join_names(facts.public_grants)} (anon, authenticated)",
            f"{remedy}, which closes them",
        )
    if facts.without_rls:
        yield Finding(Severity.WARNING, "grants", f"no row level security on {', '.join(facts.without_rls)}", remedy)
    extra = facts.extra_grants or {}
    ours = [f"{table} ({', '.join(kinds)})" for table, kinds in extra.items() if table not in INGESTERS_TABLES]
    if ours:
        yield Finding(
            Severity.WARNING,
            "grants",
            f"service_role has privileges that it does not need on {', '.join(ours)}",
            f"{remedy}, which revokes them",
        )
    for table in INGESTERS_TABLES:
        if kinds := extra.get(table):
            yield Finding(
                Severity.NOTE,
                "grants",
                f"service_role may {', '.join(kinds)} on {table}, a table of the ingester: kept",
                f"Unless the ingester needs it: revoke {', '.join(kinds).lower()} on public.{table} from service_role;",
            )


def health_findings(facts: Facts) -> Iterator[Finding]:
    """Health tables in the validator's shape, to which runs cannot be reported."""
    if _health_shape(facts) == "of the validator":
        yield Finding(
            Severity.NOTE,
            "tables",
            "ops_issues or quality_workerhealth has the validator's columns: kept, but runs are not reported there",
            f"For reports, rename both (alter table public.ops_issues rename to validator_issues;), then {AGAIN}",
        )


def _lacking_columns(facts: Facts) -> list[str]:
    has = facts.columns.get("data_agg_state", frozenset())
    return [name for name in ("is_mandatory", "agg_start_utc", "enabled", "task_priority") if has and name not in has]


def _health_shape(facts: Facts) -> str:
    shapes = [facts.columns[table] for table in ("ops_issues", "quality_workerhealth") if table in facts.columns]
    if not shapes:
        return "absent"
    return "of its newer worker" if all("env_name" in shape for shape in shapes) else "of the validator"
