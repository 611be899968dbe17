# SPDX-License-Identifier: Apache-2.0
"""Planner and checker find out each for itself which rows a node needs; for no operator do they differ."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from mmcc.checker.plan import check_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.types import Tensor, geometry
from mmcc.ops.movement import Reshape, Transpose
from mmcc.planner.api import best_plan
from mmcc.planner.fusion.schedule import operand_spans
from mmcc.planner.request import PlanRequest
from op_case import OpCase
from op_cases_float import FAMILIES as FLOAT
from op_cases_int8 import FAMILIES as INT8
from planner_graphs import Build

RESHAPED = [
    OpCase(name, Reshape(after), (np.zeros(before, np.float32),))
    for name, before, after in (
        ("more_axes", (4, 6), (4, 2, 3)),
        ("fewer_axes", (4, 2, 3), (4, 6)),
        ("more_rows", (4, 6), (8, 3)),
        ("one_axis", (4, 6), (24,)),
    )
]
OPERATORS = [case for family in (*FLOAT.values(), *INT8.values()) for case in family()]
CASES = RESHAPED + sorted(OPERATORS, key=lambda case: case.name)  # some families come in any order

pytestmark = pytest.mark.quick


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rows_of_operands(case: OpCase) -> None:
    tensors = {f"x{k}": Tensor(f"x{k}", a.shape, ElementType.F32) for k, a in enumerate(case.inputs)}
    nest = case.op.nest(*(a.shape for a in case.inputs))
    tensors["y"] = Tensor("y", nest.write.shape, ElementType.F32)
    graph = SimpleNamespace(tensors=tensors)
    node = SimpleNamespace(inputs=tuple(tensors)[:-1], outputs=("y",))
    for operand in {access.operand for access in nest.reads}:
        low, high = operand_spans(graph, node, nest, operand)  # pyright: ignore
        for row in range(geometry(nest.write.shape)[0]):
            reads = [k for k, access in enumerate(nest.reads) if access.operand == operand]
            spans = [span for span in (nest.rows_needed(k, row) for k in reads) if len(span)]
            wanted = (min(s.lo for s in spans), max(s.hi for s in spans)) if spans else (0, 0)
            assert (low[row], high[row]) == wanted or (not spans and low[row] >= high[row])


def test_a_view_with_more_axes_and_the_same_rows() -> None:
    """What reads it asks row by row, in the planner as in the checker."""
    b = Build("axes")
    turned = b.add(Transpose((1, 2, 0, 3)), b.input(3, 10, 20, 3))
    x = b.conv(b.reshape(turned, 10, 20, 9), 36, 3)
    apart = b.reshape(x, 10, 20, 12, 3)
    parts = [b.reshape(b.slice(apart, (0, 0, k, 0), (10, 20, 1, 3)), 10, 20, 3) for k in range(3)]
    graph = b.graph(b.sum(b.sum(b.conv(parts[0], 3, 3), b.conv(parts[1], 3, 3)), parts[2]))
    plan = best_plan(graph, PlanRequest())
    assert check_plan(graph, plan) == []
    assert any(len(group.nodes) > 2 for group in plan.groups)
