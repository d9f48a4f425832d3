"""Counting what Python files hold. Knows nothing of jobs, so it is tested and used without one."""

from __future__ import annotations

import ast
import os
import warnings
from pathlib import Path
from typing import Any

NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def find_python_files(library: Path) -> list[str]:
    """Return the paths of all Python files below `library`, relative to it, in order."""
    found = []
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if name not in NOT_THE_LIBRARY]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(path.relative_to(library).as_posix() for path in found)


def count_module(library: Path, name: str) -> dict[str, Any] | None:
    """Return what one file holds, or None when it does not parse."""
    source = (library / name).read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Old escapes in strings are the library's own affair.
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None  # Python's own tests hold files that are wrong on purpose.
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, Function)]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    longest = max(functions, key=_lines, default=None)
    return {
        "name": name,
        "lines": len(source.splitlines()),
        "functions": len(functions),
        "classes": len(classes),
        "longest": [_full_name(longest, classes), _lines(longest)] if longest else None,
    }


def _full_name(function: Function, classes: list[ast.ClassDef]) -> str:
    """Return a method's name with that of its class: `__init__` alone says little."""
    owner = next((found.name for found in classes if function in found.body), None)
    return f"{owner}.{function.name}" if owner else function.name


def _lines(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1
