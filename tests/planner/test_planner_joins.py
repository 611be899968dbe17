# SPDX-License-Identifier: Apache-2.0
"""The bound over all layouts of joins: below each layout's own; and a network of branches is proved by it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import inf

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmcc.checker.plan import check_plan
from mmcc.driver.ask import plan_request
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.regions import SRAM
from mmcc.ops.elementwise import Unary
from mmcc.ops.movement import Concat
from mmcc.ops.pool import MaxPool
from mmcc.ops.window import Window
from mmcc.planner.api import best_plan
from mmcc.planner.bounds.copies import is_too_large, least_copies
from mmcc.planner.bounds.join_bound import JoinBound, join_bound
from mmcc.planner.caches import predicted
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.space import Space
from mmcc.planner.layer_by_layer import choices_of
from mmcc.planner.memory.allocations import make_model
from mmcc.planner.memory.layout import make_layout
from mmcc.planner.memory.overlap import safe_offsets
from mmcc.planner.request import PlanRequest
from mmcc.target import load_target
from planner_graphs import Build
from shared_models import model_path, needs_shared

ENOUGH = 1 << 40
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def least_of_all(graph: Graph, request: PlanRequest) -> int:
    """The least bytes of the groups of any path in any layout, each layout on its own."""
    operands = choices_of(graph, request.external(graph))
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    least = ENOUGH
    for count in range(len(operands) + 1):
        for copied in combinations(operands, count):
            layout = make_layout(graph, request.external(graph), frozenset(copied))
            model = make_model(graph, layout, request, table)
            space = Space(graph, layout, model, tuple(range(len(model.kernels))), request)
            least = min(least, Table(space, ENOUGH).least(inf))
    return least


def bound_of(graph: Graph, request: PlanRequest, most: int) -> JoinBound | None:
    operands = choices_of(graph, request.external(graph))
    table = {k: safe_offsets(graph, node) for k, node in enumerate(graph.nodes)}
    return join_bound(graph, request, operands, table, most)


def grow(b: Build, draw: st.DrawFn, x: str) -> str:
    """One more node on a tensor."""
    h, w, _ = b.shape(x)
    kind = draw(st.sampled_from(["conv", "conv", "depthwise", "unary", "pool"]))
    stride = draw(st.sampled_from([1, 1, 2])) if min(h, w) >= 3 else 1
    if kind == "conv":
        return b.conv(x, draw(st.sampled_from([1, 3, 8])), draw(st.sampled_from([1, 3, (5, 1)])), stride)
    if kind == "depthwise":
        return b.depthwise(x, 3, stride)
    if kind == "pool" and min(h, w) >= 2:
        return b.add(MaxPool(Window((2, 2), (stride, stride))), x)
    return b.add(Unary("relu"), x)


@st.composite
def joined(draw: st.DrawFn) -> Graph:
    """Branches that Concats join, once or twice, with readers and ends of other kinds."""
    b = Build("joined")
    x = b.input(draw(st.integers(4, 8)), draw(st.integers(2, 4)), draw(st.sampled_from([1, 4])))
    pool = [x]
    for _ in range(draw(st.integers(1, 4))):
        pool.append(grow(b, draw, draw(st.sampled_from(pool[-2:]))))
    operands = 0
    for _ in range(draw(st.integers(1, 2))):
        like = draw(st.sampled_from(pool[1:]))
        read = {name for node in b.nodes if node.op.kernel == "concat" for name in node.inputs}
        peers = [n for n in pool if b.shape(n)[:2] == b.shape(like)[:2] and n not in read]
        if draw(st.booleans()) and operands < 3:
            peers.append(b.conv(like, draw(st.sampled_from([1, 2])), 3))
        parts = list(
            dict.fromkeys(draw(st.lists(st.sampled_from(peers), min_size=2, max_size=3)) if peers else [])
        )
        if len(parts) > 1 and operands + len(parts) <= 5:
            operands += len(parts)
            pool.append(b.concat(2, *parts))
            pool.append(b.conv(pool[-1], draw(st.sampled_from([1, 4])), draw(st.sampled_from([1, 3]))))
        for _ in range(draw(st.integers(0, 2))):
            pool.append(grow(b, draw, draw(st.sampled_from(pool[-3:]))))
    if draw(st.booleans()):
        pool.append(b.mean(pool[-1]))
    read = {name for node in b.nodes for name in node.inputs}
    return b.graph(*(n for n in pool[1:] if n not in read))


@pytest.mark.quick
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(graph=joined(), align=st.sampled_from([1, 4, 16]), pixels=st.sampled_from([0, 4]))
def test_the_bound_is_below_every_layout(graph: Graph, align: int, pixels: int) -> None:
    sums = {k: 64 for k, node in enumerate(graph.nodes) if node.op.kernel == "mean_int8"}
    pixels_of = dict.fromkeys(range(len(graph.nodes)), pixels)
    request = PlanRequest(align=align, pixels=pixels_of, accumulators=sums)
    least = least_of_all(graph, request)
    for most in (ENOUGH, least):  # groups that need more than `most` are not looked at so closely
        found = bound_of(graph, request, most)
        assert found is None or found.bytes <= least


@pytest.mark.quick
@pytest.mark.parametrize("reader", ["relu", "slice"])
def test_nothing_is_said_where_the_argument_does_not_hold(reader: str) -> None:
    """A reader that may write over a join; a choice that is not an operand of a join."""
    b = Build("joined")
    x = b.input(6, 6, 4)
    y = b.concat(2, b.conv(x, 4, 3), b.conv(x, 4, 1))
    y = b.add(Unary("relu"), y) if reader == "relu" else b.slice(y, (0, 0, 2), (6, 6, 4))
    assert bound_of(b.graph(b.conv(y, 4, 3)), PlanRequest(), ENOUGH) is None


@needs_shared
def test_a_network_of_branches_is_proved() -> None:
    """12 operands of 3 joins: 4,096 layouts. Two of them must be copied."""
    options = CompileOptions(least_ram=True)
    graph = load_graph(model_path("gen_inception_96"), options)
    made = best_plan(graph, plan_request(options, graph, load_target("host"), lambda *_: None))
    assert check_plan(graph, made) == []
    assert made.peak(SRAM) == 125_952
    assert made.proved_optimal


@pytest.mark.quick
def test_the_layout_with_the_least_bound_may_need_more_than_another() -> None:
    """Two parts of a tensor change places. As long as only the layout with the least bound was placed, 1,280
    bytes were found, and nothing was known of the layouts that have as small a bound."""
    b = Build("turned")
    x = b.input(3, 8, 8, dtype=ElementType.F32)
    first, second = b.slice(x, (0, 0, 0), (1, 8, 8)), b.slice(x, (1, 0, 0), (2, 8, 8))
    graph = b.graph(b.concat(0, second, first))
    made = best_plan(graph, PlanRequest(align=4))
    assert check_plan(graph, made) == []
    assert (made.peak(SRAM), made.bound, made.proved_optimal) == (1024, 1024, True)


@pytest.mark.quick
def test_nothing_cheaper_keeps_a_limit_in_any_of_many_layouts() -> None:
    """Eight operands of Concats: too many to try all layouts."""
    b = Build("blocks")
    x = b.conv(b.input(12, 12, 4), 8, 3)
    for _ in range(2):
        x = b.concat(2, *(b.conv(x, 4, size) for size in (1, 3, 1, 3)))
    graph = b.graph(b.max_pool(x, 2, 2))
    request = PlanRequest(align=1)
    limit = best_plan(graph, replace(request, fuse=False)).peak(SRAM) * 7 // 10
    made = best_plan(graph, replace(request, limit=limit))
    assert made.peak(SRAM) <= limit
    assert made.cheapest
    assert made.least_cost == pytest.approx(predicted(graph, made, request), rel=1e-9)
    assert check_plan(graph, made) == []


def test_what_no_layout_leaves_without_code() -> None:
    """Two Concats of the same tensor: it lies in one of them. One with itself always has code."""
    b = Build("claims")
    x, y = b.add(Unary("abs"), b.input(4, 4, 2)), b.add(Unary("abs"), b.input(4, 4, 2))
    one, two, three = b.concat(2, x, y), b.concat(2, y, x), b.concat(2, x, x)
    graph = b.graph(one, two, three)
    costs = {k: 10.0 * (k + 1) for k, node in enumerate(graph.nodes) if isinstance(node.op, Concat)}
    assert least_copies(graph, costs, (), ENOUGH, ()) == min(costs[2], costs[3]) + costs[4]


@pytest.mark.quick
def test_a_concat_of_images_has_code_where_it_is_larger_than_the_limit() -> None:
    """In place it is there whole. One of channels may be a ring of a few rows, with its operands in it."""
    b = Build("images")
    x, y = b.add(Unary("abs"), b.input(4, 4, 2)), b.add(Unary("abs"), b.input(4, 4, 2))
    graph = b.graph(b.concat(0, x, y), b.concat(2, x, y))
    costs = {k: 10.0 for k, node in enumerate(graph.nodes) if isinstance(node.op, Concat)}
    whole = graph.tensors[graph.nodes[2].output].bytes
    images, channels = costs
    assert is_too_large(graph, images, whole - 1, ())
    assert not is_too_large(graph, images, whole, ())
    assert not is_too_large(graph, images, whole - 1, (graph.nodes[images].output,))
    assert not is_too_large(graph, channels, whole - 1, ())
    assert least_copies(graph, {images: 10.0}, (), whole, ()) == 0.0
    assert least_copies(graph, {images: 10.0}, (), whole - 1, ()) == 10.0
