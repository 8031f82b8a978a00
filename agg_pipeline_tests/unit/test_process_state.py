"""The package changes nothing that its process shares with other code: no variables, no log levels, no hooks."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import agg_pipeline

PACKAGE = Path(agg_pipeline.__file__).parent

_MUTATING = {"update", "setdefault", "pop", "popitem", "clear", "__setitem__"}
_GLOBAL_CALLS = {
    "load_dotenv", "putenv", "unsetenv", "basicConfig", "dictConfig", "fileConfig", "disable", "setLevel",
    "set_on_retry_hooks", "set_active", "excepthook",
}  # fmt: skip


def writes(source: str) -> list[str]:
    """Statements that write os.environ or set up logging or hooks for the whole process, as ``line: code``."""
    tree = ast.parse(source)
    return [f"{node.lineno}: {ast.unparse(node)}" for node in ast.walk(tree) if any(_writes(node))]


def _writes(node: ast.AST) -> Iterator[bool]:
    if isinstance(node, ast.Assign | ast.AugAssign | ast.Delete):
        targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
        yield any(isinstance(target, ast.Subscript) and _is_environ(target.value) for target in targets)
        yield any(_is_environ(target) or ast.unparse(target) == "sys.excepthook" for target in targets)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield node.func.attr in _GLOBAL_CALLS
        yield node.func.attr in _MUTATING and _is_environ(node.func.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield node.func.id in _GLOBAL_CALLS


def _is_environ(node: ast.AST) -> bool:
    return ast.unparse(node) in ("os.environ", "environ")


def test_no_module_changes_the_state_of_the_process() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20, "nothing was read"
    found = [f"{path.relative_to(PACKAGE)}:{line}" for path in files for line in writes(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "os.environ['A'] = 'b'",
        "os.environ |= {'A': 'b'}",
        "del os.environ['A']",
        "os.environ.setdefault('A', 'b')",
        "def f():\n    os.environ.update(a)",
        "load_dotenv('.env')",
        "logging.getLogger('apprise').setLevel(50)",
        "stamina.instrumentation.set_on_retry_hooks(())",
    ],
)
def test_a_change_is_found(source: str) -> None:
    assert len(writes(source)) == 1


@pytest.mark.parametrize("source", ["a = os.environ | b", "os.environ.get('A')", "env['A'] = os.environ['A']"])
def test_reading_is_no_change(source: str) -> None:
    assert writes(source) == []
