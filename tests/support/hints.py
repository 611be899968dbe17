# SPDX-License-Identifier: Apache-2.0
"""Where hints are in the source, and a table of cases that follow them (test_hints.py)."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import mmcc

ROOT = Path(mmcc.__file__).parent
MAKERS = {"CompileError": None, "bad_model": 2, "unsupported": 1, "_wrong": 2, "_no_answer": 1, "_Format": 4}
PASSED_ON = {"error.hint", "arena.hint", "named.hint"}  # of another error, which has its own case
CASES: dict[str, Callable[..., None]] = {}


def follows(*keys):
    """Register a case: a function that provokes the error and then does what its hint says."""

    def register(function):
        for key in keys:
            assert key not in CASES
            CASES[key] = function
        return function

    return register


def hints():
    """(file: expression) of every hint in the source; a constant is of the file that it is from."""
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text())
        imported = _imported(tree)
        for scope in ast.walk(tree):
            if isinstance(scope, (ast.FunctionDef, ast.Module)):
                for expression in _hints_in(scope):
                    text = ast.unparse(expression)
                    if text not in PASSED_ON:
                        yield imported.get(text, f"{file}: {text}")


def _imported(tree):
    """(file: name) of what a file has from others of the compiler, by its own name for it."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return {
        alias.asname
        or alias.name: f"{(node.module or '').removeprefix('mmcc.').replace('.', '/')}.py: {alias.name}"
        for node in found
        for alias in node.names
    }


def _hints_in(scope):
    own = _own(scope)
    for call in own:
        if not isinstance(call, ast.Call):
            continue
        maker = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        found = [word.value for word in call.keywords if word.arg == "hint"]
        place = MAKERS.get(maker)
        if maker not in MAKERS or maker == "_Format":
            continue
        if not found and place is not None and len(call.args) > place:
            found = [call.args[place]]
        for expression in found:
            if isinstance(expression, ast.Lambda):  # found only when somebody asks
                yield expression.body
                continue
            if not isinstance(expression, ast.Name) or expression.id.isupper():
                yield expression
                continue
            for assigned in own:
                if isinstance(assigned, ast.Assign) and ast.unparse(assigned.targets[0]) == expression.id:
                    yield assigned.value


def _own(scope):
    """The nodes of a function, without those of functions in it."""
    queue, found = list(ast.iter_child_nodes(scope)), []
    while queue:
        one = queue.pop()
        found.append(one)
        if not isinstance(one, (ast.FunctionDef, ast.Lambda)):
            queue += ast.iter_child_nodes(one)
    return found
