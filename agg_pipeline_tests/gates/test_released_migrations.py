"""Released migrations are never edited: databases have them as they were, and `migrate` refuses one that changed."""

import hashlib
from pathlib import Path

from agg_pipeline.database.migrate import MIGRATIONS, migrations

RELEASED = Path(__file__).with_name("released.sha256")
"""As sha256sum writes it. A release adds its new files."""


def checksums() -> dict[str, str]:
    """Checksum by file name."""
    lines = (line.split() for line in RELEASED.read_text(encoding="utf-8").splitlines())
    return {name: checksum for checksum, name in lines}


def test_no_released_migration_has_changed() -> None:
    released = checksums()
    assert len(released) >= 38, "the files of 0.1.0"
    now = {name: hashlib.sha256((MIGRATIONS / name).read_bytes()).hexdigest() for name in released}
    changed = [name for name in released if now[name] != released[name]]
    assert changed == [], (
        "restore them; change agg_pipeline/supabase/schemas instead and run `make migration NAME=topic`"
    )


def test_new_migrations_come_after_the_released_ones() -> None:
    last = max(checksums())
    new = [migration.path.name for migration in migrations() if migration.path.name not in checksums()]
    assert [name for name in new if name < last] == [], "a database that has the later ones would get them too late"
