# SPDX-License-Identifier: Apache-2.0
"""The passes on float graphs: what they leave, and that it computes the same."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from graphs import Builder, ops, run
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.types import Tensor
from mmcc.ir.verify import check_final, check_graph
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Cast, Unary
from mmcc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.reduce import Reduce
from mmcc.ops.window import Window
from mmcc.passes import PASSES, optimize
from mmcc.passes.fold import fold_constants
from mmcc.passes.fold_batchnorm import fold_batchnorm
from mmcc.passes.fuse_activation import fuse_activation
from mmcc.passes.simplify import simplify

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(7)
SAME = Window((3, 3), pads=(1, 1, 1, 1))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def agree(before: Graph, after: Graph, *, rtol: float = 1e-5) -> None:
    inputs = [normal(*port.onnx_shape) for port in before.inputs]
    for a, b in zip(run(before, *inputs), run(after, *inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-5)


def optimized(before: Graph) -> Graph:
    """Every pass in order, with the checker after each."""
    graph = before
    for step in PASSES:
        graph = step(graph)
        assert check_graph(graph) == [], step
    assert check_final(graph) == []
    assert str(graph) == str(optimize(before))
    agree(before, graph)
    return graph


def test_conv_batchnorm_relu_as_text() -> None:
    b = Builder()
    x = b.input("x", 4, 4, 2)
    y = b.op(Conv(SAME), x, b.const(normal(3, 3, 3, 2)), b.const(normal(3)))
    y = b.op(Binary("mul"), y, b.const(normal(3)))
    y = b.op(Binary("add"), y, b.const(normal(1, 1, 3)))
    y = b.op(Unary("clamp", (0.0, inf)), y, name="y")
    before = b.graph(y)
    assert str(before) == (
        "graph g(%x: f32[4,4,2]) {\n"
        "  %t0: f32[4,4,3] = conv<3x3 p1,1,1,1>(%x, %c0, %c1)\n"
        "  %t1: f32[4,4,3] = mul(%t0, %c2)\n"
        "  %t2: f32[4,4,3] = add(%t1, %c3)\n"
        "  %y: f32[4,4,3] = clamp[0.0, inf](%t2)\n"
        "  return %y\n"
        "}"
    )
    after = optimized(before)
    assert str(after) == (
        "graph g(%x: f32[4,4,2]) {\n"
        "  %y: f32[4,4,3] = conv<3x3 p1,1,1,1 relu>(%x, %c0_folded, %c1_folded_folded)\n"
        "  return %y\n"
        "}"
    )
    assert [w.name for w in after.nodes[0].where] == ["t0", "t1", "t2", "y"]
    assert set(after.tensors) == {"x", "y", "c0_folded", "c1_folded_folded"}


def test_scale_goes_into_transposed_convolution_and_dense() -> None:
    b = Builder()
    x = b.input("x", 3, 3, 4)
    w = b.const(normal(6, 2, 2, 2))
    y = b.op(ConvTranspose(Window((2, 2), (2, 2)), (6, 6), 2), x, w, b.const(normal(6)))
    y = b.op(Binary("mul"), b.const(normal(6)), y)
    y = b.op(Binary("sub"), y, b.const(normal(6)))
    y = b.op(Reshape((216,)), y)
    y = b.op(Dense(), y, b.const(normal(5, 216)), b.const(np.zeros(5)))
    y = b.op(Binary("div"), y, b.const(np.array(3.0)))
    y = b.op(Unary("leaky_relu", (0.1,)), y)
    after = optimized(b.graph(y))
    assert ops(after) == ["ConvTranspose", "Reshape", "Dense"]
    assert after.nodes[-1].op == Dense(Leaky(0.1))


def test_batchnorm_before_a_padded_convolution_stays() -> None:
    b = Builder()
    x = b.input("x", 5, 5, 2)
    y = b.op(Binary("add"), b.op(Binary("mul"), x, b.const(normal(2))), b.const(normal(2)))
    y = b.op(Conv(SAME), y, b.const(normal(3, 3, 3, 2)), b.const(normal(3)))
    assert ops(optimized(b.graph(y))) == ["Binary", "Binary", "Conv"]


@pytest.mark.parametrize("second", ["reader", "output"])
def test_a_tensor_needed_elsewhere_is_not_fused_away(second: str) -> None:
    b = Builder()
    x = b.input("x", 5, 5, 2)
    y = b.op(Conv(SAME), x, b.const(normal(2, 3, 3, 2)), b.const(normal(2)))
    z = b.op(Unary("clamp", (0.0, 6.0)), b.op(Binary("mul"), y, b.const(normal(2))))
    outputs = (z, b.op(Binary("mul"), y, x)) if second == "reader" else (z, y)
    graph = b.graph(*outputs)
    assert ops(fold_batchnorm(graph)) == ops(graph)
    optimized(graph)


def test_clamps_join_but_not_behind_a_leaky_relu() -> None:
    b = Builder()
    x = b.input("x", 8)
    y = b.op(Dense(), x, b.const(normal(8, 8)), b.const(normal(8)))
    y = b.op(Unary("clamp", (0.0, inf)), y)
    y = b.op(Unary("clamp", (-1.0, 0.5)), y)
    y = b.op(Dense(), y, b.const(normal(8, 8)), b.const(normal(8)))
    y = b.op(Unary("leaky_relu", (0.3,)), y)
    y = b.op(Unary("clamp", (-inf, 1.0)), y)
    after = fuse_activation(b.graph(y))
    assert [node.op for node in after.nodes] == [
        Dense(Clamp(0.0, 0.5)),
        Dense(Leaky(0.3)),
        Unary("clamp", (-inf, 1.0)),
    ]


def test_constants_fold_and_dead_nodes_go() -> None:
    b = Builder()
    x = b.input("x", 4)
    c = b.op(Binary("mul"), b.const(normal(4)), b.const(normal(4)))
    c = b.op(Unary("exp"), c)
    b.op(Unary("tanh"), x)
    y = b.op(Binary("div"), x, c)
    after = optimized(b.graph(y))
    assert ops(after) == ["Binary"]
    assert len(after.constants) == 1


def test_constant_and_passed_through_outputs_are_copies() -> None:
    b = Builder()
    x = b.input("x", 2, 3)
    c = b.op(Unary("exp"), b.const(normal(4)))
    same = b.op(Reshape((2, 3)), x)
    y = b.op(Unary("exp"), x)
    twice = b.op(Reshape((2, 3)), y)
    after = optimized(b.graph(c, same, y, twice))
    assert ops(after).count("Expand") == 3
    assert len({port.tensor for port in after.outputs}) == 4


def test_identities_go() -> None:
    b = Builder()
    x = b.input("x", 2, 3, 4)
    y = b.op(Cast(ElementType.F32), x)
    y = b.op(Slice((0, 0, 0), (1, 1, 1), (2, 3, 4)), y)
    y = b.op(Concat(0), y)
    y = b.op(Expand((2, 3, 4)), b.op(Pad((0, 0, 0), (0, 0, 0)), y))
    y = b.op(Binary("mul"), y, b.const(np.ones(4)))
    y = b.op(Binary("add"), b.const(np.array(0.0)), y)
    y = b.op(Binary("max"), b.op(Binary("min"), y, b.const(np.array(6.0))), b.const(np.array([0.0])))
    after = optimized(b.graph(y))
    assert [node.op for node in after.nodes] == [Unary("clamp", (0.0, 6.0))]


def test_reshapes_and_transpositions_join() -> None:
    b = Builder()
    x = b.input("x", 4, 6, 5)
    y = b.op(Transpose((2, 0, 1)), x)
    y = b.op(Reshape((1, 5, 4, 6)), y)
    y = b.op(Transpose((0, 2, 3, 1)), y)
    y = b.op(Reshape((24, 5)), y)
    z = b.op(Transpose((1, 2, 0)), b.op(Transpose((1, 2, 0)), x))
    after = simplify(b.graph(y, z))
    assert [node.op for node in after.nodes] == [Transpose((2, 0, 1)), Reshape((24, 5))]
    assert all(node.inputs == ("x",) for node in after.nodes)
    agree(b.graph(y, z), after)


def test_a_transposition_of_extents_one_is_a_reshape() -> None:
    b = Builder()
    y = b.op(Transpose((1, 2, 0)), b.input("x", 1, 6, 5))
    assert ops(simplify(b.graph(y))) == ["Reshape"]


def test_nothing_is_computed_twice() -> None:
    b = Builder()
    x = b.input("x", 5)
    y = b.op(Binary("mul"), b.op(Unary("tanh"), x), b.op(Unary("tanh"), x))
    assert ops(optimized(b.graph(y))) == ["Unary", "Binary"]


def test_pads_go_into_windows() -> None:
    b = Builder()
    x = b.input("x", 6, 6, 2)
    pad = Pad((1, 0, 0), (0, 2, 0))
    y = b.op(Conv(SAME, 1, Clamp(0.0)), b.op(pad, x), b.const(normal(2, 3, 3, 2)), b.const(normal(2)))
    y = b.op(MaxPool(Window((2, 2), (2, 2))), b.op(Pad((0, 0, 0), (1, 0, 0)), y))
    y = b.op(AveragePool(Window((3, 3))), b.op(Pad((1, 1, 0), (1, 1, 0)), y))
    after = optimized(b.graph(y))
    assert ops(after) == ["Conv", "MaxPool", "AveragePool"]
    assert after.nodes[0].op.window.pads == (2, 1, 1, 3)
    assert after.nodes[2].op.counted == (1, 1, 1, 1)


def test_pads_that_mean_something_stay() -> None:
    b = Builder()
    x = b.input("x", 6, 6, 2)
    y = b.op(MaxPool(Window((2, 2))), b.op(Pad((0, 0, 0), (1, 0, 0)), x))  # 0 may win
    z = b.op(Pad((1, 1, 0), (1, 1, 0), value=2.0), x)
    z = b.op(Conv(SAME), z, b.const(normal(2, 3, 3, 2)), b.const(normal(2)))
    lowest = float(np.finfo(np.float32).min)
    v = b.op(MaxPool(Window((2, 2))), b.op(Pad((3, 0, 0), (0, 0, 0), value=lowest), x))  # a window of padding
    assert ops(optimized(b.graph(y, z, v))).count("Pad") == 3


def test_flattened_transposition_goes_into_the_dense_weights() -> None:
    b = Builder()
    x = b.input("x", 4, 3, 5)
    y = b.op(Reshape((60,)), b.op(Transpose((2, 0, 1)), x))
    y = b.op(Dense(), y, b.const(normal(7, 60)), b.const(normal(7)))
    after = optimized(b.graph(y))
    assert ops(after) == ["Reshape", "Dense"]


def test_rows_keep_their_places_when_a_dense_layer_absorbs() -> None:
    b = Builder()
    x = b.input("x", 4, 3, 5)
    y = b.op(Reshape((4, 15)), b.op(Transpose((0, 2, 1)), x))
    y = b.op(Dense(), y, b.const(normal(7, 15)), b.const(normal(7)))
    z = b.op(Reshape((5, 12)), b.op(Transpose((2, 1, 0)), x))
    z = b.op(Dense(), z, b.const(normal(7, 12)), b.const(normal(7)))
    after = optimized(b.graph(y, z))
    assert ops(after) == ["Reshape", "Dense", "Transpose", "Reshape", "Dense"]


def test_transpositions_sink_through_elementwise_ops_and_cancel() -> None:
    b = Builder()
    x = b.input("x", 4, 3, 5)
    y = b.op(Transpose((2, 0, 1)), x)
    y = b.op(Unary("tanh"), y)
    y = b.op(Binary("mul"), y, b.const(normal(5, 1, 1)))
    y = b.op(Binary("add"), y, b.op(Transpose((2, 0, 1)), b.op(Unary("exp"), x)))
    y = b.op(Transpose((1, 2, 0)), y)
    after = optimized(b.graph(y))
    assert ops(after) == ["Unary", "Binary", "Unary", "Binary"]


def test_a_reduction_comes_before_a_transposition() -> None:
    b = Builder()
    x = b.input("x", 4, 3, 5)
    y = b.op(Reduce("mean", (1, 2)), b.op(Transpose((2, 0, 1)), x))
    y = b.op(Reshape((5,)), y)
    after = optimized(b.graph(y))
    assert [node.op for node in after.nodes] == [Reduce("mean", (0, 1)), Reshape((5,))]


def test_a_transposition_that_would_only_move_stays() -> None:
    b = Builder()
    x = b.input("x", 4, 3, 5)
    y = b.op(Unary("tanh"), b.op(Transpose((2, 0, 1)), x))
    assert ops(optimized(b.graph(y))) == ["Transpose", "Unary"]


def test_huge_constants_are_not_made() -> None:
    b = Builder()
    x = b.input("x", 1)
    c = b.op(Expand((1 << 25,)), b.const(normal(1)))
    y = b.op(Binary("mul"), x, c)
    assert ops(fold_constants(b.graph(y))) == ["Expand", "Binary"]


def test_the_checker_finds_faults() -> None:
    b = Builder()
    x = b.input("x", 4)
    y = b.op(Unary("exp"), x, name="y")
    z = b.op(Unary("tanh"), y, name="z")
    graph = b.graph(z)
    wrong = Graph("g", graph.tensors, {}, graph.nodes[::-1], graph.inputs, graph.outputs)
    assert check_graph(wrong) == ["node 0 (tanh): reads %y before it is written"]
    wrong = Graph("g", graph.tensors, {}, graph.nodes[:1] * 2, graph.inputs, graph.outputs)
    assert check_graph(wrong) == [
        "node 1 (exp): %y is written twice, or is an input or a constant",
        "output %z is never written",
        "tensor %z is never written",
    ]
    tensors = graph.tensors | {"y": Tensor("y", (3,))}
    wrong = Graph("g", tensors, {}, graph.nodes, graph.inputs, graph.outputs)
    assert "node 0 (exp): writes %y: f32[3] but the op gives f32[4]" in check_graph(wrong)


def test_spelled_out_gates_are_one_function() -> None:
    b = Builder()
    x = b.input("x", 40)
    silu = b.op(Binary("mul"), x, b.op(Unary("sigmoid"), x))
    clamp = b.op(Unary("clamp", (0.0, 6.0)), b.op(Binary("add"), x, b.const(np.array(3.0))))
    swish = b.op(Binary("mul"), x, b.op(Binary("div"), clamp, b.const(np.array([6.0]))))
    mish = b.op(Binary("mul"), b.op(Unary("tanh"), b.op(Unary("softplus"), x)), x)
    erf = b.op(Unary("erf"), b.op(Binary("div"), x, b.const(np.array(np.sqrt(2)))))
    gelu = b.op(Binary("mul"), x, b.op(Binary("add"), erf, b.const(np.array(1.0))))
    gelu = b.op(Binary("mul"), gelu, b.const(np.array(0.5)))
    after = optimized(b.graph(silu, swish, mish, gelu))
    functions = [node.op.function for node in after.nodes]
    assert functions == ["silu", "hard_swish", "mish", "gelu"]


def test_a_gate_of_another_tensor_stays() -> None:
    b = Builder()
    x, y = b.input("x", 40), b.input("y", 40)
    z = b.op(Binary("mul"), x, b.op(Unary("sigmoid"), y))
    v = b.op(Binary("mul"), x, b.op(Unary("sigmoid"), b.op(Binary("mul"), x, b.const(np.array(1.01)))))
    assert ops(optimized(b.graph(z, v))).count("Binary") == 3
