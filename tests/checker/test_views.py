# SPDX-License-Identifier: Apache-2.0
"""A node without code only moves elements: an op that computes is convicted, whatever it says of itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mmcc.checker.plan import check_plan
from mmcc.checker.views import only_moves
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.op import Op
from mmcc.ir.traits import Moves
from mmcc.ir.types import Shape
from mmcc.ops.elementwise import Binary, Cast, Unary
from mmcc.ops.movement import Pad
from mmcc.ops.pool import MaxPool
from mmcc.ops.quantize import FlipSign, Quantize
from mmcc.ops.reduce import Reduce
from mmcc.ops.window import Window
from op_case import OpCase
from op_cases_float import FAMILIES
from planned_alone import planned_alone
from planner_graphs import Build

pytestmark = pytest.mark.quick

COMPUTING: list[tuple[Op, ElementType]] = [
    (Unary("clamp", (-1e38, 1e38)), ElementType.F32),  # only the largest floats are changed
    (Unary("abs"), ElementType.F32),
    (Unary("sign"), ElementType.I8),
    (Unary("clamp", (-127, 127)), ElementType.I8),  # only one of 256 is
    (Unary("clamp", (-(2.0**31), 2.0**31 - 256)), ElementType.I32),
    (Unary("not"), ElementType.BOOL),
    (Reduce("max", (2,)), ElementType.I8),
    (MaxPool(Window((2, 1))), ElementType.F32),
    (Pad((0, 1, 0), (0, 0, 0), "constant", 3.0), ElementType.I8),
    (Cast(ElementType.U8), ElementType.I8),
    (FlipSign(), ElementType.I8),
    (Quantize(1.0, 0), ElementType.F32),
]


@pytest.mark.parametrize(("op", "dtype"), COMPUTING, ids=lambda x: getattr(x, "name", str(x)))
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 40, 5), (2, 1, 2)])
def test_an_op_that_takes_itself_for_a_view(op: Op, dtype: ElementType, shape: Shape) -> None:
    b = Build("lie")
    graph = b.graph(b.add(op, b.input(*shape, dtype=dtype)))
    lie = replace(planned_alone(graph), groups=(), aliases=frozenset((0,)))
    assert any("computes something" in text for text in check_plan(graph, lie))


def test_an_op_of_two_that_takes_itself_for_a_view() -> None:
    b = Build("lie")
    graph = b.graph(b.add(Binary("max"), b.input(2, 3, 4), b.input(2, 3, 4)))
    lie = replace(planned_alone(graph), groups=(), aliases=frozenset((0,)))
    assert any("computes something" in text for text in check_plan(graph, lie))


def graph_of(case: OpCase) -> Graph:
    b = Build(case.name)
    return b.graph(*b.add_all(case.op, *(b.input(*a.shape, dtype=ElementType.of(a)) for a in case.inputs)))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_moves_by_place_and_nothing_else_may_be_a_view(family: str) -> None:
    """In the float cases of all operators; those that are the same as no operator may, too."""
    for case in FAMILIES[family]():
        graph = graph_of(case)
        may = only_moves(graph, graph.nodes[0], lambda name, of=graph: of.tensors[name].shape)
        fills = (
            isinstance(case.op, Pad) and case.op.mode == "constant" and any((*case.op.before, *case.op.after))
        )
        if case.op.traits.moves is Moves.BY_PLACE:
            assert may is not fills, case.name
        elif may:  # a window of one, a cast to the same type, a mean of one
            (y,) = case.op.reference(*case.inputs)[:1]
            assert y.dtype == case.inputs[0].dtype, case.name
            assert np.array_equal(y.reshape(-1), case.inputs[0].reshape(-1), equal_nan=True), case.name
