# SPDX-License-Identifier: Apache-2.0
"""Broadcasts that fold into rows, columns and channels, and those that need an Expand first."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import Builder, ops, run
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_bench import Bench
from mmcc.ir.graph import Graph
from mmcc.ir.verify import check_graph
from mmcc.ops.elementwise import Binary, Where
from mmcc.ops.movement import Expand, Reshape
from mmcc.passes.expand_broadcasts import expand_broadcasts, expressible
from op_case import OpCase

pytestmark = pytest.mark.quick


@st.composite
def broadcast_shapes(draw, count: int) -> list[tuple[int, ...]]:
    """Shapes that broadcast with each other, up to rank 6."""
    full = draw(st.lists(st.integers(1, 3), max_size=6))
    shapes = []
    for _ in range(count):
        rank = draw(st.integers(0, len(full)))
        shapes.append(tuple(draw(st.sampled_from((1, n))) for n in full[len(full) - rank :]))
    return shapes


def added(*shapes: tuple[int, ...], constant: bool = False) -> Graph:
    build = Builder()
    rng = np.random.default_rng(0)
    names = [
        build.const(rng.standard_normal(shape)) if constant and k else build.input(f"x{k}", *shape)
        for k, shape in enumerate(shapes)
    ]
    if len(names) == 2:
        return build.graph(build.op(Binary("add"), *names))
    chosen = build.op(Binary("greater"), names[0], build.const(np.float32(0)))
    return build.graph(build.op(Where(), chosen, *names[1:]))


def samples(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(p.onnx_shape)).astype(np.float32) for p in graph.inputs]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.one_of(broadcast_shapes(2), broadcast_shapes(3)), st.booleans())
def test_every_broadcast_becomes_expressible(shapes, constant):
    graph = added(*shapes, constant=constant)
    after = expand_broadcasts(graph)
    assert not check_graph(after)
    for node in after.nodes:
        if isinstance(node.op, (Binary, Where)):
            shape = after.tensors[node.output].shape
            assert all(expressible(after.tensors[name].shape, shape) for name in node.inputs)
    inputs = samples(graph)
    for a, b in zip(run(graph, *inputs), run(after, *inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_folds_stays():
    for a, b in (
        ((2, 3, 4, 5), (2, 1, 4, 5)),
        ((2, 3, 4, 5), (1, 1, 1, 1)),
        ((2, 3, 4), (3, 4)),
        ((4,), (2, 3, 4)),
    ):
        graph = added(a, b)
        assert ops(expand_broadcasts(graph)) == ops(graph)


def test_a_mask_over_heads_is_expanded_once_a_head():
    """[1,1,1,T] over [B,H,T,T]: the mask repeats inside a pixel; batch and heads need no copies."""
    after = expand_broadcasts(added((2, 3, 4, 4), (1, 1, 1, 4)))
    assert [type(node.op) for node in after.nodes] == [Expand, Binary]
    assert after.tensors[after.nodes[0].output].shape == (1, 1, 4, 4)


def test_constants_are_expanded_at_compile_time():
    after = expand_broadcasts(added((2, 3, 4, 5), (4, 1), constant=True))
    assert [type(node.op) for node in after.nodes] == [Binary]
    assert [data.shape for data in after.constants.values()] == [(1, 1, 4, 5)]


def test_lower_rank_gets_leading_axes():
    after = expand_broadcasts(added((2, 3, 4, 5), (3, 4, 5)))
    assert [type(node.op) for node in after.nodes] == [Reshape, Binary]


@settings(max_examples=3, deadline=None, derandomize=True)
@given(st.lists(broadcast_shapes(2), min_size=25, max_size=25))
def test_kernels_can_do_all_that_is_expressible(pairs):
    rng = np.random.default_rng(2)
    cases = []
    for k, (a, b) in enumerate(pairs):
        full = np.broadcast_shapes(a, b)
        if expressible(a, full) and expressible(b, full):
            inputs = tuple(np.asarray(rng.standard_normal(s)).astype(np.float32) for s in (a, b))
            cases.append(OpCase(f"case{k}", Binary("sub"), inputs, (False, bool(k % 2))))
    bench = Bench(cases)
    for case in cases:
        bench.check(case.name)
