"""Imports between packages go one way, so that each package can be read without those above it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import agg_pipeline

PACKAGE = Path(agg_pipeline.__file__).parent

# Packages that each package or top-level module may import besides itself, as in docs/architecture.md.
SETTINGS = {"settings", "errors"}
MARKET = SETTINGS | {"market"}
DATABASE = MARKET | {"database"}
QUALITY = DATABASE | {"reading", "quality"}
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),  # agg_pipeline/__init__.py
    "settings": set(),
    "errors": set(),
    "market": SETTINGS,
    "database": MARKET,
    "aggregation": DATABASE,
    "ingest": DATABASE,
    "reading": DATABASE,
    "quality": DATABASE | {"reading"},
    "doctor": QUALITY,
    "orchestration": QUALITY | {"aggregation", "ingest", "doctor"},
    "embedded": SETTINGS,
    "cli": QUALITY | {"aggregation", "ingest", "doctor", "orchestration", "embedded", "definitions"},
    "definitions": QUALITY | {"aggregation", "ingest", "doctor", "orchestration"},
}


def problems(path: Path, package: Path = PACKAGE) -> list[str]:
    """What is wrong with the imports of one file of the package, one line each."""
    parts = path.relative_to(package).with_suffix("").parts
    home = "" if parts == ("__init__",) else parts[0]
    if home not in MAY_IMPORT:
        return [f"{'/'.join(parts)}: {home} is not a package of the design; give it a row in MAY_IMPORT"]
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


def test_imports_go_one_way() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20, "nothing was read"
    assert [problem for path in files for problem in problems(path)] == []


def test_the_top_level_holds_what_the_design_names() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__", "definitions", "settings", "errors"}
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert packages == MAY_IMPORT.keys() - modules - {""}


@pytest.mark.parametrize(
    "package", sorted(path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*/__init__.py"))
)
def test_a_package_docstring_says_what_does_not_belong_in_it(package: str) -> None:
    docstring = ast.get_docstring(ast.parse((PACKAGE / package / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert " not belong here" in docstring, f"{package}/__init__.py does not say what does not belong there"


def test_a_long_module_gives_its_reason() -> None:
    """Modules of 50 to 250 lines; a longer one has a reason in its docstring."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 250:
            assert "One module, because" in (ast.get_docstring(ast.parse(text)) or ""), f"{path} is too long"


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        (
            "database/gateway.py",
            "from agg_pipeline.orchestration.ops import x",
            ":1: database must not import orchestration",
        ),
        ("database/gateway.py", "from agg_pipeline import aggregation", ":1: database must not import aggregation"),
        ("market/windows.py", "from ..database import models", ":1: market must not import database"),
        (
            "market/windows.py",
            "def f():\n    import agg_pipeline.definitions",
            ":2: market must not import definitions",
        ),
        ("reading/pages.py", "from agg_pipeline.quality import checks", ":1: reading must not import quality"),
        ("quality/repair.py", "from .. import aggregation", ":1: quality must not import aggregation"),
        ("settings.py", "import agg_pipeline.errors", ":1: settings must not import errors"),
        ("definitions.py", "from agg_pipeline.cli import app", ":1: definitions must not import cli"),
        (
            "orchestration/ops.py",
            "from agg_pipeline.embedded import start",
            ":1: orchestration must not import embedded",
        ),
        ("embedded/stack.py", "from agg_pipeline.database.gateway import x", ":1: embedded must not import database"),
        ("__init__.py", "import agg_pipeline.definitions", ":1: the package itself must not import definitions"),
        ("new.py", "", ": new is not a package of the design; give it a row in MAY_IMPORT"),
        (
            "orchestration/ops.py",
            "from dagster._core.events import X",
            ":1: dagster._core.events.X is private to Dagster",
        ),
        ("orchestration/ops.py", "from dagster import _check", ":1: dagster._check is private to Dagster"),
        (
            "orchestration/ops.py",
            "from __future__ import annotations\nimport dagster",
            ": future annotations beside dagster",
        ),
    ],
)
def test_a_wrong_import_is_reported(file: str, source: str, problem: str, tmp_path: Path) -> None:
    package = tmp_path / "agg_pipeline"
    path = package / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert problems(path, package) == [file.removesuffix(".py") + problem]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("definitions.py", "from agg_pipeline.orchestration import jobs, sensors\nimport dagster as dg"),
        ("database/gateway.py", "from ..errors import GatewayError"),
        ("database/transport/rest.py", "from .postgres import X\nfrom agg_pipeline.errors import error_for"),
        ("cli/app.py", "from agg_pipeline.definitions import defs\nfrom agg_pipeline.embedded import start"),
        ("embedded/stack.py", "from agg_pipeline.settings import load_settings\nfrom . import api"),
        ("quality/recomputation.py", "from __future__ import annotations\nfrom agg_pipeline.market import timeframes"),
    ],
)
def test_a_right_import_is_not_reported(file: str, source: str, tmp_path: Path) -> None:
    package = tmp_path / "agg_pipeline"
    path = package / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert problems(path, package) == []
