# SPDX-License-Identifier: Apache-2.0
"""Outputs that are moved apart from what their nodes read: plans stay right and as small; bands of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from lowered_programs import check
from mmcc.checker.plan import check_plan
from mmcc.codegen.lower import lower_entry
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import RUN, Entry
from mmcc.ir.plan import Plan
from mmcc.ir.program import EntryCode
from mmcc.ir.regions import SRAM
from mmcc.kernels.contract import contract
from mmcc.ops.conv import Conv
from mmcc.ops.matmul import MatMulInt8, Operands
from mmcc.ops.movement import Reshape
from mmcc.ops.pool import MaxPool
from mmcc.ops.window import Window
from mmcc.planner.api import best_plan
from mmcc.planner.chunks import free_of_itself
from mmcc.planner.request import PlanRequest
from mmcc.planner.spread import spread
from mmcc.target import load_target
from planner_graphs import Build
from planner_random import graphs

pytestmark = pytest.mark.quick
HOST = load_target("host")


def _narrowing() -> Graph:
    """A large image, and layers behind it beside whose tensors there is room."""
    b = Build("narrowing")
    x = _conv(b, b.input(24, 24, 16, dtype=ElementType.F32), 2)
    for _ in range(3):
        x = _conv(b, x, 1)
    return b.graph(x)


def _conv(b: Build, x: str, stride: int) -> str:
    """3x3 to 16 channels, float."""
    window = Window((3, 3), (stride, stride), (1, 1), (1, 1, 1, 1))
    weights, bias = np.zeros((16, 3, 3, b.shape(x)[2]), np.float32), np.zeros(16, np.float32)
    return b.add(Conv(window), x, b.constant(weights), b.constant(bias))


def _over(graph: Graph, plan: Plan) -> set[int]:
    """Nodes that run alone, and whose output lies over what they read."""
    alone = [(step, group.nodes[0]) for step, group in enumerate(plan.groups) if len(group.nodes) == 1]
    return {index for step, index in alone if not free_of_itself(graph, plan, index, step)}


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(graph=graphs(9))
def test_plans_stay_right_and_as_small(graph: Graph) -> None:
    request = PlanRequest(fuse=False, effort=1.0, spread=frozenset(range(len(graph.nodes))))
    plan = best_plan(graph, request)
    found = spread(graph, plan, request)
    assert check_plan(graph, found) == []
    assert found.peak(SRAM) == plan.peak(SRAM)
    assert _over(graph, found) <= _over(graph, plan)


def test_layers_with_room_are_apart_and_forward() -> None:
    graph = _narrowing()
    request = PlanRequest(fuse=False, effort=1.0)
    plan = best_plan(graph, request)
    assert _over(graph, plan), "nothing to do"
    assert spread(graph, plan, request) == plan
    found = spread(graph, plan, replace(request, spread=frozenset(range(4))))
    assert not _over(graph, found) & {1, 2, 3}
    assert not any(group.backward for group in found.groups[1:])


def _banded() -> tuple[Graph, Plan, EntryCode]:
    """A program with a band of several rows."""
    graph = _narrowing()
    request = PlanRequest(fuse=False, effort=1.0, spread=frozenset(range(4)))
    plan = spread(graph, best_plan(graph, request), request)
    code = lower_entry(Entry(RUN, graph), plan, HOST)
    assert any(dict(node.use.fields)["band"] != 1 for node in code.nodes)
    assert check(graph, plan, code) == []
    return graph, plan, code


def test_rows_together_over_what_is_read_are_convicted() -> None:
    """The plan as it was before, with the bands of the one that has room for them."""
    graph, _, code = _banded()
    plan = best_plan(graph, PlanRequest(fuse=False, effort=1.0))
    ours = lower_entry(Entry(RUN, graph), plan, HOST)
    assert check(graph, plan, ours) == []
    bands = {node.index: dict(node.use.fields)["band"] for node in code.nodes}
    nodes = tuple(
        replace(node, use=replace(node.use, fields=(*node.use.fields, ("band", bands[node.index]))))
        for node in ours.nodes
    )
    wrong = check(graph, plan, replace(ours, nodes=nodes))
    assert any("rows together, but its output" in text and "lies over" in text for text in wrong), wrong


def test_rows_together_of_a_backward_node_are_convicted() -> None:
    graph, plan, code = _banded()
    step = next(k for k, group in enumerate(plan.groups) if dict(code.nodes[k].use.fields)["band"] != 1)
    groups = tuple(replace(g, backward=True) if k == step else g for k, g in enumerate(plan.groups))
    wrong = check(graph, replace(plan, groups=groups), code)
    assert any("rows together, but is not made by one call" in text for text in wrong), wrong


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize(("image", "template"), [(False, "matmul_int8"), (True, "matmul_tiles")])
def test_rows_of_a_product_are_made_together_only_where_it_lies_apart(image, template, target) -> None:
    """The second of two products: laid over its operand, or in what an image before them leaves."""
    core = load_target(target)
    graph, op = _products(image), MatMulInt8(Operands(), (0, 0), 1 << 30, 40, 0)
    product = next(k for k, node in enumerate(graph.nodes) if node.op == op)
    assert contract(graph, product, core).apart
    assert not contract(graph, product, load_target("cortex-m3")).apart
    plan = best_plan(graph, PlanRequest(fuse=False, effort=1.0, spread=frozenset({product})))
    step = next(k for k, group in enumerate(plan.groups) if product in group.nodes)
    assert free_of_itself(graph, plan, product, step) == image
    code = lower_entry(Entry(RUN, graph), plan, core)
    assert [node.use.template for node in code.nodes if node.index == product] == [template]
    assert check(graph, plan, code) == []


def _products(image: bool) -> Graph:
    b = Build("products")
    x = b.input(*((32, 32, 16) if image else (64, 16)))
    if image:
        x = b.add(Reshape((64, 16)), b.add(MaxPool(Window((4, 4), (4, 4))), x))
    y = b.add(MatMulInt8(Operands(transposed=True), (0, 0), 1 << 30, 40, 0), x, x)
    return b.graph(b.add(MatMulInt8(Operands(), (0, 0), 1 << 30, 40, 0), y, x))
