# SPDX-License-Identifier: Apache-2.0
"""Whether a tensor is a constant is asked of its graph, not of the data, so that the answer can grow."""

from __future__ import annotations

import ast
from pathlib import Path

import mmcc
import numpy as np
import pytest
from graphs import Builder
from mmcc.ir.storage import Storage
from mmcc.ops.elementwise import Binary, Unary

pytestmark = pytest.mark.quick

ROOT = Path(mmcc.__file__).parent
OWNERS = ("ir/", "frontend/builder.py", "passes/draft.py")  # the dictionary of constants is theirs


def asks_the_data(tree: ast.AST) -> list[int]:
    """Lines that look for a name in some `constants`, or compute with its keys."""
    lines: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
            parts = node.comparators
        elif isinstance(node, ast.BinOp):
            parts = [node.left, node.right]
        else:
            continue
        sources = {ast.unparse(part).removesuffix(".keys()") for part in parts}
        lines += [node.lineno for source in sources if source.endswith(".constants")]
    return lines


def test_the_search_finds_each_form():
    forms = ["n in graph.constants", "n not in self._graph.constants", "names - graph.constants.keys()"]
    assert [asks_the_data(ast.parse(form)) for form in forms] == [[1]] * 3
    assert asks_the_data(ast.parse("graph.constants[n] if n in constants else 0")) == []


def test_nobody_asks_the_data():
    found = {
        path.relative_to(ROOT).as_posix(): lines
        for path in ROOT.rglob("*.py")
        if "_data" not in path.parts and (lines := asks_the_data(ast.parse(path.read_text())))
    }
    assert {path for path in found if not path.startswith(OWNERS)} == set()
    assert found  # the owners do


def test_every_tensor_has_a_storage():
    b = Builder()
    x, fixed = b.input("x", 4), b.const(np.ones(4))
    inner = b.op(Binary("add"), x, fixed)
    graph = b.graph(b.op(Unary("exp"), inner))
    assert {name: graph.storage(name) for name in graph.tensors} == {
        x: Storage.PORT,
        fixed: Storage.CONSTANT,
        inner: Storage.ACTIVATION,
        graph.outputs[0].tensor: Storage.PORT,
    }
    assert [name for name in graph.tensors if graph.is_constant(name)] == [fixed]
