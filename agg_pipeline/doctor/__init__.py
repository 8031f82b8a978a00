"""Examine a project before and after a migration: which database it is, what is wrong with it, what to type.

Facts are collected over a database URL (database) or a REST API (rest); what they mean does not depend on who looked
(structure, drift, content).

Does not belong here: changing anything (migrate, quality/repair).
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

__all__ = ["Examination", "Finding", "Severity", "examine", "state"]


@dataclass(frozen=True)
class Examination:
    """What was found, and what ``migrate`` would apply."""

    state: str
    findings: list[Finding]
    pending: list[Migration]

    @property
    def is_sound(self) -> bool:
        return all(finding.severity == Severity.NOTE for finding in self.findings)


def examine(transport: Transport, *, dsn: str | None, since: dt.datetime | None = None) -> Examination:
    """Look at a project and judge what is seen; nothing is changed.

    Args:
        transport: to the project.
        dsn: database URL; None: only what the REST API shows.
        since: rows and bars before it are not judged.
    Raises:
        GatewayError: the project cannot be reached, or may not be read.
    """
    facts = _facts(transport, dsn, since)
    if facts.recorded is None:
        pending = [] if facts.contract >= CONTRACT else migrations()
    else:
        pending = [migration for migration in migrations() if migration.version not in facts.recorded]
    found = [
        *structure.version_findings(facts, pending),
        *structure.function_findings(facts, pending),
        *structure.rights_findings(facts, pending),
        *drift.drift_findings(facts, pending),
        *structure.health_findings(facts),
        *content.cursor_findings(facts),
        *content.task_findings(facts, dt.datetime.now(dt.UTC)),
        *content.asset_findings(facts),
        *content.row_findings(facts),
        *(
            Finding(Severity.NOTE, "not checked", f"{what}: needs a database URL", "Set SUPABASE_DB_URL.")
            for what in facts.unseen
        ),
    ]
    if facts.contract >= CONTRACT and not pending and not FUNCTIONS - facts.functions.keys():
        gateway = AggGateway(transport)
        health = gateway.health()
        found += content.stall_findings(health, facts)
        damage = [
            find_damage(
                gateway, task, max(task.first_window_utc, since or task.first_window_utc),
                task.cursor_utc or task.first_window_utc,
            )
            for task in health
        ]  # fmt: skip
        found += content.damage_findings(damage)
    found.sort(key=lambda finding: list(Severity).index(finding.severity))
    return Examination(structure.state_of(facts), found, pending)


def state(dsn: str) -> str:
    """Which database this is, in words; no row is judged. Raises GatewayError."""
    return structure.state_of(database.look(dsn, rows=False))


def _facts(transport: Transport, dsn: str | None, since: dt.datetime | None) -> Facts:
    if dsn is not None:
        return database.look(dsn, since=since)
    assert isinstance(transport, RestTransport)  # noqa: S101 - a database URL is the only other way
    return rest.look(transport)
