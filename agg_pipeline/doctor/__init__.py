"""Examination of a project, before and after a migration: its state, findings, and the command that corrects each.

Facts are read over a database URL (database) or a REST API (rest); findings are derived from facts alone (structure,
drift, content).

Does not belong here: changes of the database (migrate, quality/repair).
"""

import datetime as dt
from dataclasses import dataclass

from agg_pipeline.database.gateway import CONTRACT, FUNCTIONS, AggGateway
from agg_pipeline.database.migrate import Migration, migrations
from agg_pipeline.database.transport import Transport
from agg_pipeline.database.transport.rest import RestTransport
from agg_pipeline.doctor import content, database, drift, rest, structure
from agg_pipeline.doctor.facts import Facts
from agg_pipeline.doctor.finding import Finding, Severity
from agg_pipeline.quality.repair import find_damage

__all__ = ["Examination", "Finding", "Severity", "describe_database", "examine"]


@dataclass(frozen=True)
class Examination:
    """State of a project, findings, and migrations that ``migrate`` would apply."""

    state: str
    findings: list[Finding]
    pending: list[Migration]

    @property
    def is_sound(self) -> bool:
        """True if nothing has to be done: there are notes at most."""
        return all(finding.severity == Severity.NOTE for finding in self.findings)


def examine(transport: Transport, *, dsn: str | None, since: dt.datetime | None = None) -> Examination:
    """Examine a project; changes nothing.

    Args:
        transport: connection to the project.
        dsn: database URL; None: only what the REST API shows is examined.
        since: rows and bars before it are not examined.
    Raises:
        GatewayError: the project cannot be reached, or the user has no permission to read it.
    """
    facts = _read_facts(transport, dsn, since)
    if facts.applied_versions is None:
        pending = [] if facts.contract >= CONTRACT else migrations()
    else:
        pending = [migration for migration in migrations() if migration.version not in facts.applied_versions]
    found = [
        *structure.version_findings(facts, pending),
        *structure.function_findings(facts, pending),
        *structure.grant_findings(facts, pending),
        *drift.drift_findings(facts, pending),
        *structure.health_findings(facts),
        *content.cursor_findings(facts),
        *content.task_findings(facts, dt.datetime.now(dt.UTC)),
        *content.asset_findings(facts),
        *content.row_findings(facts),
        *(
            Finding(Severity.NOTE, "not checked", f"{what}: needs a database URL", "Set SUPABASE_DB_URL.")
            for what in facts.not_checked
        ),
    ]
    if facts.contract >= CONTRACT and not pending and not FUNCTIONS - facts.functions.keys():
        gateway = AggGateway(transport)
        health = gateway.health()
        found += content.stall_findings(health, facts)
        damage = [
            find_damage(gateway, task, max(first, since or first), task.built_until)
            for task in health
            if (first := task.first_window_utc) is not None
        ]
        found += content.damage_findings(damage)
    found.sort(key=lambda finding: list(Severity).index(finding.severity))
    return Examination(structure.describe_state(facts), found, pending)


def describe_database(dsn: str) -> str:
    """State of a database in words, without examining rows. Raises GatewayError."""
    return structure.describe_state(database.read_facts(dsn, rows=False))


def _read_facts(transport: Transport, dsn: str | None, since: dt.datetime | None) -> Facts:
    if dsn is not None:
        return database.read_facts(dsn, since=since)
    assert isinstance(transport, RestTransport)  # noqa: S101 - without a database URL there is no other
    return rest.read_facts(transport)
