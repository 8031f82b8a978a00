"""Software under Apache-2.0 may build on whatever the package depends on: permissive, or copyleft of its own files."""

import re
from importlib import metadata

from packaging.requirements import Requirement

# As packages write them: SPDX identifiers, classifiers, or words of their own.
ALLOWED = {
    "MIT", "MIT License", "MIT-0", "Apache-2.0", "Apache Software License", "Apache 2.0", "Apache License 2.0", "BSD",
    "BSD License", "BSD-2-Clause", "BSD-3-Clause", "3-Clause BSD License", "0BSD", "ISC", "ISC License (ISCL)", "Zlib",
    "CC0-1.0", "PSF-2.0", "Python Software Foundation License", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)",
    "LGPL-3.0-only", "LGPL-3.0-or-later", "GNU Library or Lesser General Public License (LGPL)",
}  # fmt: skip


def closure(name: str) -> dict[str, metadata.Distribution]:
    """Everything installed that a distribution needs at run time, by name, itself left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [(name, frozenset[str]())]
    seen = set()
    while waiting:
        owner, extras = waiting.pop()
        for text in metadata.distribution(owner).requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                continue
            asked = (requirement.name, frozenset(requirement.extras))
            if asked not in seen:
                seen.add(asked)
                found[requirement.name] = metadata.distribution(requirement.name)
                waiting.append(asked)
    return found


MIT_BEGINS = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"


def licence(package: metadata.Distribution) -> str:
    """What a package says of its licence, most precise first; empty if nothing."""
    of = package.metadata
    if expression := of.get("License-Expression"):
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in of.get_all("Classifier") or [] if c.startswith("License :: ")]
    if words := "; ".join(classifiers) or str(of.get("License") or "").strip():
        return words.splitlines()[0]
    texts = [" ".join(str(file.read_text()).split()) for file in package.files or [] if file.name.startswith("LICENSE")]
    return "MIT" if any(MIT_BEGINS in text for text in texts) else ""


def is_allowed(licence: str) -> bool:
    """True if one of the alternatives, and in it each part, is allowed."""
    alternatives = re.sub(r"^\((.*)\)$", r"\1", licence).split(" OR ")
    return any({part.strip() for part in re.split(r" AND |;", each)} <= ALLOWED for each in alternatives)


def test_every_dependency_has_a_licence_that_we_may_build_on() -> None:
    found = closure("agg-pipeline")
    assert {"dagster", "supabase", "psycopg", "psycopg2-binary", "numpy"} <= found.keys()
    refused = {name: licence(d) for name, d in found.items() if not is_allowed(licence(d))}
    assert refused == {}


def test_what_we_may_not_build_on_is_found() -> None:
    for good in ("MIT", "Apache-2.0 OR GPL-3.0-only", "(BSD-3-Clause AND 0BSD)", "BSD License; MIT License"):
        assert is_allowed(good), good
    for bad in ("GPL-3.0-only", "MIT AND GPL-2.0", "AGPL-3.0", "GNU General Public License v3 (GPLv3)", "UNKNOWN", ""):
        assert not is_allowed(bad), bad
