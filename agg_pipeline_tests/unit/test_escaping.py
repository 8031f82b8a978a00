"""A text gets into markup, HTML, a URL, a file name or a key of Dagster through agg_pipeline/market/names.py alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import agg_pipeline

PACKAGE = Path(agg_pipeline.__file__).parent
NAMES = "market/names.py"
CONSOLES = "cli/app.py"

# Functions that escape, or that read a text as markup.
FORBIDDEN = (
    "html", "shlex", "xml.sax.saxutils", "markupsafe", "rich.markup", "rich.print", "rich.emoji",
    "urllib.parse.quote", "urllib.parse.quote_plus", "urllib.parse.urlencode",
)  # fmt: skip
STYLES = r"bold|dim|italic|red|green|yellow|blue|magenta|cyan|white"
MARKUP = re.compile(rf"\[/(?:{STYLES})?\]|\[(?:{STYLES})[ a-z]*\]")


def problems(path: Path, package: Path = PACKAGE) -> list[str]:
    """What one file of the package does by itself, one line each."""
    file = path.relative_to(package).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [(line, f"{name}; use {NAMES}") for line, name in _imports(tree) if file != NAMES and _is_forbidden(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and file.startswith("cli/"):
            if tag := MARKUP.search(node.value):
                found.append((node.lineno, f"markup {tag[0]}; use styled of {CONSOLES}"))
        elif isinstance(node, ast.Call):
            found += [(node.lineno, problem) for problem in _problems_of_call(node, file)]
    return [f"{file}:{line}: {problem}" for line, problem in sorted(found)]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.lineno, ast.unparse(node)


def _is_forbidden(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in FORBIDDEN)


def _problems_of_call(node: ast.Call, file: str) -> Iterator[str]:
    called = ast.unparse(node.func).rpartition(".")[2]
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called in ("from_markup", "render_markup"):
        yield f"{called} reads a text as markup"
    if called == "Console" and file != CONSOLES:
        yield f"a console of its own; use those of {CONSOLES}"
    if "True" in (given.get("markup"), given.get("emoji")) or (
        called == "TextColumn" and given.get("markup") != "False"
    ):
        yield f"{called} reads a text as markup; pass markup=False"
    if called == "DynamicOutput" and "mapping_key(" not in given.get("mapping_key", ""):
        yield f"a mapping key by hand; use {NAMES}"


def test_names_are_escaped_in_one_module() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100, "nothing was read"
    assert [problem for path in files for problem in problems(path)] == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("cli/load.py", "from rich.markup import escape", ":1: rich.markup.escape; use market/names.py"),
        ("reading/svg_chart.py", "\nfrom html import escape", ":2: html.escape; use market/names.py"),
        ("reading/x.py", "import html\nhtml.escape('')", ":1: html; use market/names.py"),
        ("doctor/rest.py", "from urllib.parse import quote", ":1: urllib.parse.quote; use market/names.py"),
        ("cli/load.py", "print(f'[yellow]{x}[/]')", ":1: markup [yellow]; use styled of cli/app.py"),
        (
            "cli/up.py",
            "from rich.console import Console\nConsole()",
            ":2: a console of its own; use those of cli/app.py",
        ),
        ("cli/up.py", "console.print(x, markup=True)", ":1: print reads a text as markup; pass markup=False"),
        ("cli/up.py", "TextColumn('{task.description}')", ":1: TextColumn reads a text as markup; pass markup=False"),
        ("cli/up.py", "Text.from_markup(x)", ":1: from_markup reads a text as markup"),
        (
            "orchestration/ops.py",
            "dg.DynamicOutput(1, mapping_key=x)",
            ":1: a mapping key by hand; use market/names.py",
        ),
    ],
)
def test_an_escape_by_hand_is_reported(file: str, source: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert file + problem in problems(path, tmp_path)
