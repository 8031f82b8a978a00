"""Imports go one way, so that data has one road and each module can be read without those above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import agg_pipeline

PACKAGE = Path(agg_pipeline.__file__).parent

# Each may import what stands above it, never its neighbours of the same line or what stands below.
ROAD: list[set[str]] = [
    {"settings", "tags", "wording"},
    {"timeframes", "trading_hours"},
    {"models"},
    {"alerting", "diagnosis", "outcomes"},
    {"barrow"},
    {"barfile", "demo_bars", "migrations", "picture", "reference"},
    {"chart", "errors", "findings", "partitions"},
    {"transport"},
    {"gateway"},
    {"calendars", "verify"},
    {"checks"},
    {"resources", "executors"},
    {"work"},
    {"closing", "filling", "refreshing", "retention"},
    {"damage", "figures"},
    {"doctor", "evaluations"},
    {"inspecting", "selection", "watching"},
    {"ops"},
    {"jobs"},
    {"alarm", "schedules", "sensors", "assets"},
    {"definitions"},
]
# Beside the road: what each may import, and nobody but cli imports them.
BESIDE: dict[str, set[str]] = {
    "cli": {"local"}.union(*ROAD),
    "local": {"settings", "errors"},
    "": set(),  # agg_pipeline/__init__.py
}
MAY_IMPORT = {module: set[str]().union(*ROAD[:n]) for n, line in enumerate(ROAD) for module in line} | BESIDE


def problems(path: Path, package: Path = PACKAGE) -> list[str]:
    """What is wrong with the imports of one file of the package, one line each."""
    parts = path.relative_to(package).with_suffix("").parts
    home = "" if parts == ("__init__",) else parts[0]
    if home not in MAY_IMPORT:
        return [f"{'/'.join(parts)}: {home} has no place in ROAD; give it one"]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    uses_dagster = False
    for line, name in _imports(tree, (package.name, *parts)):
        top, _, rest = name.partition(".")
        if top == package.name:
            target = rest.partition(".")[0]
            if target and target != home and target not in MAY_IMPORT[home]:
                found.append(f"{'/'.join(parts)}:{line}: {home or 'the package itself'} must not import {target}")
        elif top.startswith("dagster"):
            uses_dagster = True
            if any(part.startswith("_") for part in name.split(".")):
                found.append(f"{'/'.join(parts)}:{line}: {name} is private to Dagster")
    # Dagster reads the annotations of ops, resources and dg.Config when it decorates them, and cannot use text.
    if uses_dagster and "__future__.annotations" in (name for _, name in _imports(tree, (package.name, *parts))):
        found.append(f"{'/'.join(parts)}: future annotations beside dagster")
    return found


def _imports(tree: ast.Module, file: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that is imported, wherever in the file: ``from a import b`` is ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = file[: -node.level] if node.level else ()
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def test_the_package_keeps_the_order() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20, "nothing was read"
    assert [problem for path in files for problem in problems(path)] == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("gateway.py", "from agg_pipeline.ops import select_due", ":1: gateway must not import ops"),
        ("gateway.py", "from agg_pipeline import jobs", ":1: gateway must not import jobs"),
        ("gateway.py", "from .jobs import build_job", ":1: gateway must not import jobs"),
        ("gateway.py", "def f():\n    import agg_pipeline.definitions", ":2: gateway must not import definitions"),
        ("transport/rest.py", "from ..gateway import AggGateway", ":1: transport must not import gateway"),
        ("transport/rest.py", "from .. import gateway", ":1: transport must not import gateway"),
        ("sensors.py", "import agg_pipeline.schedules", ":1: sensors must not import schedules"),
        ("definitions.py", "from agg_pipeline.cli import app", ":1: definitions must not import cli"),
        ("ops.py", "from agg_pipeline.local import start", ":1: ops must not import local"),
        ("local/stack.py", "from agg_pipeline.gateway import AggGateway", ":1: local must not import gateway"),
        ("__init__.py", "import agg_pipeline.definitions", ":1: the package itself must not import definitions"),
        ("new.py", "", ": new has no place in ROAD; give it one"),
        ("ops.py", "from dagster._core.events import X", ":1: dagster._core.events.X is private to Dagster"),
        ("ops.py", "from dagster import _check", ":1: dagster._check is private to Dagster"),
        ("ops.py", "from __future__ import annotations\nimport dagster", ": future annotations beside dagster"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str, problem: str, tmp_path: Path) -> None:
    package = tmp_path / "agg_pipeline"
    path = package / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert problems(path, package) == [file.removesuffix(".py") + problem]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("definitions.py", "from agg_pipeline import jobs, sensors\nimport dagster as dg"),
        ("gateway.py", "from .errors import GatewayError"),
        ("transport/rest.py", "from .postgres import PostgresTransport\nfrom agg_pipeline.errors import error_for"),
        ("cli/app.py", "from agg_pipeline.definitions import defs\nfrom agg_pipeline.local import start"),
        ("local/stack.py", "from agg_pipeline.settings import load_settings\nfrom . import api"),
        ("reference.py", "from __future__ import annotations\nfrom agg_pipeline.timeframes import Timeframe"),
    ],
)
def test_a_right_import_is_not(file: str, source: str, tmp_path: Path) -> None:
    package = tmp_path / "agg_pipeline"
    path = package / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert problems(path, package) == []
