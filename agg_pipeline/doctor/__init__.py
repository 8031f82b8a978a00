"""Examine a project before and after a migration: which database it is, what is wrong with it, what to type.

Facts are collected over a database URL (database) or a REST API (rest), and judged in one place (findings).
"""

import datetime as dt
from dataclasses import dataclass

from agg_pipeline.damage import find_damage
from agg_pipeline.doctor import database, rest
from agg_pipeline.doctor.facts import Facts
from agg_pipeline.doctor.findings import Finding, Severity, damage_findings, findings, state_of, worst_first
from agg_pipeline.gateway import CONTRACT, FUNCTIONS, AggGateway
from agg_pipeline.migrations import Migration, migrations
from agg_pipeline.transport import Transport
from agg_pipeline.transport.rest import RestTransport

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
    now = dt.datetime.now(dt.UTC)
    found = findings(facts, pending, now)
    if facts.contract >= CONTRACT and not pending and not FUNCTIONS - facts.functions.keys():
        gateway = AggGateway(transport)
        damage = [
            find_damage(
                gateway, task, max(task.first_window_utc, since or task.first_window_utc),
                task.cursor_utc or task.first_window_utc,
            )
            for task in gateway.health()
        ]  # fmt: skip
        found = worst_first([*found, *damage_findings(damage)])
    return Examination(state_of(facts), found, pending)


def state(dsn: str) -> str:
    """Which database this is, in words; no row is judged. Raises GatewayError."""
    return state_of(database.look(dsn, rows=False))


def _facts(transport: Transport, dsn: str | None, since: dt.datetime | None) -> Facts:
    if dsn is not None:
        return database.look(dsn, since=since)
    assert isinstance(transport, RestTransport)  # noqa: S101 - a database URL is the only other way
    return rest.look(transport)
