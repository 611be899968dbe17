# SPDX-License-Identifier: Apache-2.0
"""What several parts want to know of an op stands in its traits, not in lists of ops that each part keeps."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import mmcc
import pytest
from mmcc.ops.catalog import OPS

pytestmark = pytest.mark.quick

ROOT = Path(mmcc.__file__).parent
# kernels name the ops that they are for; the checker believes no traits
OWN = ("kernels/", "checker/")


def op_lists(tree: ast.AST) -> set[frozenset[str]]:
    """The tuples and unions of op classes in a file, but for parts of larger ones."""
    found = {
        frozenset(names)
        for node in ast.walk(tree)
        if isinstance(node, ast.Tuple | ast.BinOp) and len(names := class_names(node)) > 1
    }
    lists = {names for names in found if names <= OPS.keys()}
    return {names for names in lists if not any(names < other for other in lists)}


def class_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Tuple):
        return [name for part in node.elts for name in class_names(part)]
    if isinstance(node, ast.BinOp):
        return class_names(node.left) + class_names(node.right)
    return [node.id if isinstance(node, ast.Name) else ""]


def test_the_search_finds_each_form() -> None:
    forms = ["isinstance(op, (Slice, Concat))", "isinstance(op, Slice | Concat)", "MOVES = Slice, Concat"]
    assert [op_lists(ast.parse(form)) for form in forms] == [{frozenset(("Slice", "Concat"))}] * 3
    assert op_lists(ast.parse("x = Slice, 1; y = isinstance(op, Slice)")) == set()


def test_no_list_of_ops_is_kept_twice() -> None:
    users: dict[frozenset[str], list[str]] = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if "_data" not in path.parts and not name.startswith(OWN):
            for names in op_lists(ast.parse(path.read_text())):
                users[names].append(name)
    assert users
    assert {tuple(sorted(names)): where for names, where in users.items() if len(where) > 1} == {}
    assert [where for some in users.values() for where in some if where.startswith("planner/")] == []
