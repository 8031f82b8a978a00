"""What in a live database is not as in this version: functions, views, triggers, grants, row level security.

Compared by the fingerprints that ship with the package. Only objects of ours are compared; what a user has made besides
is not looked at. Everything named here is put right by `migrate --again`.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

from agg_pipeline.database.fingerprints import Fingerprints, load
from agg_pipeline.database.gateway import CONTRACT, FUNCTIONS
from agg_pipeline.database.migrate import Migration, defined_functions
from agg_pipeline.doctor.facts import INGESTERS_TABLES, Facts
from agg_pipeline.doctor.finding import AGAIN, Finding, Severity, join_names

_GRANT = re.compile(r"(\w+) on (\w+) (.+) to (\w+)")
_CAUSE = "changed by hand, or left from another version"


def drift_findings(facts: Facts, pending: Sequence[Migration]) -> Iterator[Finding]:
    """Nothing is compared where the database is of another version, or not whole yet."""
    if facts.fingerprints is None or facts.contract != CONTRACT or pending:
        return
    shipped, live = load(), facts.fingerprints
    yield from _objects(shipped, live, facts)
    yield from _row_security(shipped, live, facts)
    yield from _grants(shipped, live, facts)


def _objects(shipped: Fingerprints, live: Fingerprints, facts: Facts) -> Iterator[Finding]:
    for kind in ("function", "view", "trigger"):
        missing, changed, overloaded = [], [], []
        there = _by_name(live[kind])
        for name, wanted in _by_name(shipped[kind]).items():
            found = there.get(name, {})
            if not found:
                missing.append(name)
            elif len(found) > len(wanted):
                overloaded.append(name)
            elif found != wanted:
                changed.append(name)
        if changed:
            yield _finding(f"{kind}s", f"not as in this version: {join_names(changed)}")
        # Those that the package calls are errors of their own (structure).
        if missing := [name for name in missing if name not in FUNCTIONS]:
            yield _finding(f"{kind}s", f"missing: {join_names(missing)}")
        if overloaded := [name for name in overloaded if name not in facts.overloaded]:
            yield _finding(f"{kind}s", f"there twice: {join_names(overloaded)}")
    if left := sorted((defined_functions() - _by_name(shipped["function"]).keys()) & _by_name(live["function"]).keys()):
        yield _finding("functions", f"no longer part of this version: {join_names(left)}")


def _by_name(identities: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Identities of one name together: the overloads of a function."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for identity, fingerprint in identities.items():
        found[identity.partition("(")[0]][identity] = fingerprint
    return found


def _row_security(shipped: Fingerprints, live: Fingerprints, facts: Facts) -> Iterator[Finding]:
    found = [
        table
        for table, fingerprint in shipped["row security"].items()
        if live["row security"].get(table, fingerprint) != fingerprint and table not in (facts.without_rls or ())
    ]
    if found:
        yield _finding("grants", f"row level security is not as in this version on {join_names(found)}")


def _grants(shipped: Fingerprints, live: Fingerprints, facts: Facts) -> Iterator[Finding]:
    """Grants on objects of ours; those that structure reports as rights that are too wide are left to it."""
    ours, there = _grantable(shipped), _grantable(live)
    missing = [
        grant
        for grant in map(_Grant.of, sorted(shipped["grant"].keys() - live["grant"].keys()))
        if grant.on in ours & there and not grant.is_of_ingester
    ]
    extra = [
        grant
        for grant in map(_Grant.of, sorted(live["grant"].keys() - shipped["grant"].keys()))
        if grant.on in ours and not grant.is_of_ingester and not grant.is_too_wide(facts)
    ]
    if missing:
        yield _finding("grants", f"missing: {join_names([str(grant) for grant in missing])}")
    if extra:
        yield _finding("grants", f"not of this version: {join_names([str(grant) for grant in extra])}")


def _grantable(fingerprints: Fingerprints) -> set[str]:
    """Tables, views and functions. Not sequences: an upgraded table may have another one, or none."""
    tables = fingerprints["row security"].keys() | fingerprints["view"].keys()
    return {f"table {name}" for name in tables} | {f"function {name}" for name in fingerprints["function"]}


class _Grant(NamedTuple):
    privilege: str
    kind: str
    name: str
    role: str

    @classmethod
    def of(cls, identity: str) -> Self:
        match = _GRANT.fullmatch(identity)
        assert match is not None, identity  # noqa: S101 - written by read_catalogue
        return cls(*match.groups())

    @property
    def on(self) -> str:
        """The object; of a column its table."""
        return f"table {self.name.partition('.')[0]}" if self.kind == "column" else f"{self.kind} {self.name}"

    @property
    def is_of_ingester(self) -> bool:
        """Whether it stays as it is: the ingester has brought its table and its rights."""
        return self.role == "service_role" and self.on == "table data_bars"

    def is_too_wide(self, facts: Facts) -> bool:
        name = self.on.partition(" ")[2].partition("(")[0]
        if self.role == "service_role":
            return name in INGESTERS_TABLES or self.privilege in (facts.extra_grants or {}).get(name, ())
        return {name, f"{name}()"} & set(facts.public_grants or ()) != set()

    def __str__(self) -> str:
        return f"{self.privilege} on {self.name} to {self.role}"


def _finding(about: str, found: str) -> Finding:
    return Finding(Severity.WARNING, about, f"{found} ({_CAUSE})", f"{AGAIN}, which puts them back")
