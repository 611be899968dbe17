# SPDX-License-Identifier: Apache-2.0
"""Caches of several layers in one tensor: a state a slice, or a chain of updates; nothing is joined."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ir_text import read
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import Interpreter, evaluate
from mmcc.ir.module import Module, check_module
from mmcc.ir.regions import STATE, Place
from mmcc.passes.chain_updates import chain_updates
from mmcc.passes.pair_states import pair_states
from mmcc.passes.separate_states import separate_states
from mmcc.passes.split_states import state_pieces
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from mmcc.planner.states import ALIGN, state_places

pytestmark = pytest.mark.quick

# two layers; each writes a line of its slice [heads, places, channels], and reads the slice
DECODER = """
    input %place: i64[1] Port(onnx_name="place", onnx_shape=[1], axes=[0])
    input %x: f32[2,1,3] Port(onnx_name="x", onnx_shape=[2, 1, 3], axes=[0, 1, 2])
    input %cache: f32[2,2,5,3] Port(onnx_name="cache", onnx_shape=[2, 2, 5, 3], axes=[0, 1, 2, 3])
    %a = Slice([0, 0, 0, 0], [1, 1, 1, 1], [1, 2, 5, 3])(%cache)
    %a.3 = Reshape([2, 5, 3])(%a)
    %a.new = ScatterAlong()(%a.3, %place, %x)
    %scores = MatMul(Operands(True, False))(%x, %a.new)
    %weights = Softmax()(%scores)
    %x2 = MatMul(Operands(False, False))(%weights, %a.new)
    %b = Slice([1, 0, 0, 0], [1, 1, 1, 1], [1, 2, 5, 3])(%cache)
    %b.3 = Reshape([2, 5, 3])(%b)
    %b.new = ScatterAlong()(%b.3, %place, %x2)
    %y = Reduce("sum", [1])(%b.new)
    %a.4 = Reshape([1, 2, 5, 3])(%a.new)
    %b.4 = Reshape([1, 2, 5, 3])(%b.new)
    %cache.new = Concat(0)(%a.4, %b.4)
    output %y Port(onnx_name="y", onnx_shape=[2, 1, 3], axes=[0, 1, 2])
    output %cache.new Port(onnx_name="cache_out", onnx_shape=[2, 2, 5, 3], axes=[0, 1, 2, 3])
"""
CACHE = 2 * 2 * 5 * 3 * 4  # bytes


def steps() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    return [
        {"x": rng.standard_normal((2, 1, 3)).astype(np.float32), "place": np.array([place])}
        for place in (0, 1, 4, -2, 9)
    ]


def as_it_was(graph: Graph) -> list[np.ndarray]:
    """What the model computes with its cache handed on by its caller."""
    cache, found = np.zeros((2, 2, 5, 3), np.float32), []
    for given in steps():
        made = evaluate(graph, {**given, "cache": cache})
        cache = made["cache_out"]
        found.append(made["y"])
    return found


def kinds(graph: Graph) -> Counter[str]:
    return Counter(type(node.op).__name__ for node in graph.nodes)


def test_a_cache_that_is_a_state_is_a_state_for_each_slice():
    graph = read(DECODER)
    whole = pair_states(graph, {"cache": "cache_out"}, {})
    split = separate_states(whole)
    assert check_module(Module.of(split)) == []
    assert kinds(split) == {"ScatterAlong": 2, "MatMul": 2, "Softmax": 1, "Reduce": 1}
    assert [(p.begin, p.first, p.shape) for p in state_pieces(whole)["cache"]] == [
        ("cache.0", 0, (2, 5, 3)),
        ("cache.1", 30, (2, 5, 3)),
    ]
    machine = Interpreter(Module.of(split))
    for given, want in zip(steps(), as_it_was(graph), strict=True):
        arrays = machine.call("run", given)
        np.testing.assert_array_equal(arrays[split.outputs[0].tensor], want)


def test_a_cache_that_is_an_input_is_updated_where_the_output_is():
    graph = read(DECODER)
    chained = chain_updates(graph)
    assert check_module(Module.of(chained)) == []
    assert "Concat" not in kinds(chained)
    for given in steps():
        full = {**given, "cache": np.arange(60, dtype=np.float32).reshape(2, 2, 5, 3)}
        for name, want in evaluate(graph, full).items():
            np.testing.assert_array_equal(evaluate(chained, full)[name], want)
    plan = best_plan(chained, PlanRequest())
    assert PlanRequest().peak(plan) < 1.5 * CACHE < PlanRequest().peak(best_plan(graph, PlanRequest()))
    assert check_plan(chained, plan) == []


@pytest.mark.parametrize("shape", [(1, 6), (3, 2)])
def test_a_state_whose_pieces_change_places_stays_whole(shape):
    """The newest row comes behind those before: a slice of the old value is a piece of the new one."""
    rows, columns = shape
    graph = read(f"""
        input %x: f32[{rows},{columns}]
        state %s: f32[{rows + 1},{columns}] becomes %t = all 0.0
        %old = Slice([{rows}, 0], [1, 1], [1, {columns}])(%s)
        %t = Concat(0)(%old, %x)
        %y = Unary("relu")(%t)
        output %y
    """)
    assert state_pieces(graph) == {}


def test_pieces_that_are_read_whole_stay_whole():
    graph = read("""
        input %x: f32[2,3]
        state %s: f32[4,3] becomes %t = all 0.0
        %x2 = Unary("relu")(%x)
        %t = Concat(0)(%x, %x2)
        %y = Reduce("sum", [0])(%s)
        output %y
    """)
    assert state_pieces(graph) == {}
    assert len(separate_states(graph).states) == 1
    assert state_places(separate_states(graph).states, ALIGN) == {"s": Place(STATE, 0)}
