"""What in a live database is not as in this version: functions, views, triggers, grants, row level security.

Compared by the fingerprints that ship with the package. Only objects of ours are compared; what a user has made besides
is not looked at. Everything named here is put right by `migrate --again`.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from agg_pipeline.database.fingerprints import Fingerprints, load
from agg_pipeline.database.gateway import CONTRACT, FUNCTIONS
from agg_pipeline.database.migrate import Migration, defined_functions
from agg_pipeline.doctor.facts import INGESTERS_TABLES, Facts
from agg_pipeline.doctor.finding import AGAIN, Finding, Severity, join_names

_GRANT = re.compile(r"(?P<privilege>\w+) on (?P<kind>\w+) (?P<object>.+) to (?P<role>\w+)")
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
    """Grants that are not reported as rights that are too wide (structure), and are not the ingester's own."""
    tables = {*shipped["row security"], *shipped["view"]}
    there = {*live["row security"], *live["view"], *live["function"]}
    reported = {name.removesuffix("()") for name in facts.public_grants or ()}

    def ours(grants: Iterable[str], more: Collection[str]) -> Iterator[str]:
        for grant in sorted(grants):
            match = _GRANT.fullmatch(grant)
            if match is None or match["kind"] == "sequence":  # of an upgraded table it may be another one, or none
                continue
            name, role = match["object"], match["role"]
            table = name.partition(".")[0]
            is_ours = name in shipped["function"] if match["kind"] == "function" else table in tables
            if not is_ours or (name if match["kind"] == "function" else table) not in there:
                continue
            if role == "service_role":
                is_known = table in INGESTERS_TABLES and (table == "data_bars" or grant in more)
                is_known |= grant in more and match["privilege"] in (facts.extra_grants or {}).get(table, ())
            else:
                is_known = table.partition("(")[0] in reported
            if not is_known:
                yield f"{match['privilege']} on {name} to {role}"

    if missing := list(ours(shipped["grant"].keys() - live["grant"].keys(), ())):
        yield _finding("grants", f"missing: {join_names(missing)}")
    added = live["grant"].keys() - shipped["grant"].keys()
    if extra := list(ours(added, added)):
        yield _finding("grants", f"not of this version: {join_names(extra)}")


def _finding(about: str, found: str) -> Finding:
    return Finding(Severity.WARNING, about, f"{found} ({_CAUSE})", f"{AGAIN}, which puts them back")
