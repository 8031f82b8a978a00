"""FUNCTIONS, by which a database is checked, lists exactly the functions that the gateway calls."""

import ast
from pathlib import Path

from agg_pipeline.database import gateway


def test_the_list_of_functions_is_complete() -> None:
    called = set()
    for path in Path(gateway.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_call":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}: name the function"
                called.add(node.args[0].value)
    assert called == gateway.FUNCTIONS
