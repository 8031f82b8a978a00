"""supabase/catalogue.json: a fingerprint of each function, view, trigger and grant of this version.

Ships with the package, so that a live database can be compared without a second one. `make migration` writes it; a test
holds it equal to supabase/schemas.
"""

import hashlib
import json
import re
from pathlib import Path

from agg_pipeline.database.catalogue import Catalogue, Fact
from agg_pipeline.database.schemas import SUPABASE

PATH = SUPABASE / "catalogue.json"

STABLE = ("function", "view", "trigger", "row security", "grant")
"""Kinds of facts that read the same on PostgreSQL 15 to 18, and that `migrate --again` puts right."""

_QUALIFIER = re.compile(r"\b\w+\.(?=\w)")

Fingerprints = dict[str, dict[str, str]]
"""Hash by kind and identity."""


def fingerprints(catalogue: Catalogue) -> Fingerprints:
    """Fingerprints of the facts that read the same on every version of PostgreSQL."""
    found: Fingerprints = {kind: {} for kind in STABLE}
    for fact, value in sorted(catalogue.items()):
        if fact.kind in STABLE:
            found[fact.kind][fact.identity] = _hash(fact, value)
    return found


def load(path: Path = PATH) -> Fingerprints:
    """The fingerprints of this version."""
    found: Fingerprints = json.loads(path.read_text(encoding="utf-8"))
    return found


def save(catalogue: Catalogue, path: Path = PATH) -> bool:
    """Write the file; True if that changed it."""
    text = json.dumps(fingerprints(catalogue), indent=1) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.write_text(text, encoding="utf-8")
    return True


def _hash(fact: Fact, value: str) -> str:
    if fact.kind == "view":  # PostgreSQL 16 and later leave out table names in front of columns
        value = _QUALIFIER.sub("", value)
    return hashlib.sha256(value.encode()).hexdigest()[:16]
