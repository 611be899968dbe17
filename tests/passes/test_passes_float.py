# SPDX-License-Identifier: Apache-2.0
"""The passes on float graphs: what they leave, and that it computes the same."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from graphs import Builder, ops, run
from ir_text import nodes_of, read
from mmcc.ir.graph import Graph
from mmcc.ir.parse import parse_graph
from mmcc.ir.verify import check_final, check_graph
from mmcc.ops import OPS
from mmcc.ops.activation import Clamp, Leaky
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Unary
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


def test_conv_batchnorm_relu() -> None:
    after = optimized(
        read("""
            input %x: f32[4,4,2]
            constant %w: f32[3,3,3,2] = random 1
            constant %b: f32[3] = random 2
            constant %scale: f32[3] = random 3
            constant %shift: f32[1,1,3] = random 4
            %conv = Conv(Window([3, 3], pads=[1, 1, 1, 1]))(%x, %w, %b) at Where("m", 0, "Conv", "first")
            %scaled = Binary("mul")(%conv, %scale) at Where("m", 1, "Mul", "second")
            %shifted = Binary("add")(%scaled, %shift)
            %y = Unary("clamp", [0.0, inf])(%shifted) at Where("m", 3, "Relu", "last")
            output %y
        """)
    )
    assert nodes_of(after) == [
        "%y = Conv(window=Window(kernel=[3, 3], pads=[1, 1, 1, 1]), activation=Clamp(low=0.0))"
        "(%x, %w_folded, %b_folded_folded)"
    ]
    assert [w.name for w in after.nodes[0].where] == ["first", "second", "last"]
    assert set(after.tensors) == {"x", "y", "w_folded", "b_folded_folded"}


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
    after = optimized(
        read("""
            input %x: f32[2,3,4]
            constant %one: f32[4] = [1, 1, 1, 1]
            constant %zero: f32[] = [0]
            constant %six: f32[1] = [6]
            %cast = Cast(f32)(%x)
            %slice = Slice([0, 0, 0], [1, 1, 1], [2, 3, 4])(%cast)
            %concat = Concat(0)(%slice)
            %pad = Pad([0, 0, 0], [0, 0, 0])(%concat)
            %expand = Expand([2, 3, 4])(%pad)
            %mul = Binary("mul")(%expand, %one)
            %add = Binary("add")(%zero, %mul)
            %min = Binary("min")(%add, %six)
            %y = Binary("max")(%min, %zero)
            output %y
        """)
    )
    assert nodes_of(after) == ['%y = Unary(function="clamp", parameters=[0.0, 6.0])(%x)']


def test_reshapes_and_transpositions_join() -> None:
    before = read("""
        input %x: f32[4,6,5]
        %a = Transpose([2, 0, 1])(%x)
        %b = Reshape([1, 5, 4, 6])(%a)
        %c = Transpose([0, 2, 3, 1])(%b)
        %y = Reshape([24, 5])(%c)
        %d = Transpose([1, 2, 0])(%x)
        %z = Transpose([1, 2, 0])(%d)
        output %y
        output %z
    """)
    after = simplify(before)
    assert nodes_of(after) == ["%a = Transpose(perm=[2, 0, 1])(%x)", "%y = Reshape(shape=[24, 5])(%x)"]
    assert [port.tensor for port in after.outputs] == ["y", "a"]
    agree(before, after)


def test_a_transposition_of_extents_one_is_a_reshape() -> None:
    b = Builder()
    y = b.op(Transpose((1, 2, 0)), b.input("x", 1, 6, 5))
    assert ops(simplify(b.graph(y))) == ["Reshape"]


def test_a_slice_of_what_was_joined_is_one_of_a_part() -> None:
    b = Builder()
    parts = [b.op(Unary(name), b.input(f"x{k}", 2, 3, 4)) for k, name in enumerate(("tanh", "sigmoid"))]
    joined = b.op(Concat(0), *parts)
    whole = b.op(Slice((2, 0, 0), (1, 1, 1), (2, 3, 4)), joined)
    back = b.op(Slice((3, 0, 1), (-1, 1, 2), (2, 3, 2)), joined)
    across = b.op(Slice((1, 0, 0), (1, 1, 1), (2, 3, 4)), joined)
    before = b.graph(b.op(Unary("exp"), whole), back, across)
    after = simplify(before)
    assert ops(after).count("Slice") == 2
    readers = {node.op: node.inputs for node in after.nodes}
    assert readers[Unary("exp")] == (parts[1],)
    assert readers[Slice((1, 0, 1), (-1, 1, 2), (2, 3, 2))] == (parts[1],)
    assert readers[Slice((1, 0, 0), (1, 1, 1), (2, 3, 4))] == (joined,)
    agree(before, after)


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


def test_a_pad_before_an_axis_is_added_goes_into_the_window() -> None:
    """As exporters write causal convolutions of sequences; one that means something stays as it was."""
    for shape, kernel in (((1, 12, 3), (1, 3)), ((12, 1, 3), (3, 1))):
        b = Builder()
        x = b.input("x", 10, 3)
        image = b.op(Reshape(shape), b.op(Pad((2, 0), (0, 0)), x))
        y = b.op(Conv(Window(kernel)), image, b.const(normal(4, *kernel, 3)), b.const(normal(4)))
        after = optimized(b.graph(y))
        assert ops(after) == ["Reshape", "Conv"]
        assert after.nodes[1].op.window.pads == ((0, 2, 0, 0) if shape[0] == 1 else (2, 0, 0, 0))
        other = b.op(Reshape(shape), b.op(Pad((2, 0), (0, 0), value=1.0), x))
        z = b.op(Conv(Window(kernel)), other, b.const(normal(4, *kernel, 3)), b.const(normal(4)))
        assert ops(optimized(b.graph(z))) == ["Pad", "Reshape", "Conv"]


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
    before = read("""
        input %x: f32[4,3,5]
        constant %scale: f32[5,1,1] = [1, 2, 3, 4, 5]
        %turned = Transpose([2, 0, 1])(%x)
        %tanh = Unary("tanh")(%turned)
        %scaled = Binary("mul")(%tanh, %scale)
        %exp = Unary("exp")(%x)
        %other = Transpose([2, 0, 1])(%exp)
        %sum = Binary("add")(%scaled, %other)
        %y = Transpose([1, 2, 0])(%sum)
        output %y
    """)
    assert ops(optimized(before)) == ["Unary", "Binary", "Unary", "Binary"]


def test_a_reduction_comes_before_a_transposition() -> None:
    before = read("""
        input %x: f32[4,3,5]
        %turned = Transpose([2, 0, 1])(%x)
        %mean = Reduce("mean", [1, 2])(%turned)
        %y = Reshape([5])(%mean)
        output %y
    """)
    assert [node.op for node in optimized(before).nodes] == [Reduce("mean", (0, 1)), Reshape((5,))]


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
    text = """graph "g" {{
        input %x: f32[4]
        %y: f32[{extent}] = Unary("exp")(%x)
        %z: f32[4] = Unary("tanh")(%y)
        output %z
    }}"""
    graph = parse_graph(text.format(extent=4), OPS)
    assert check_graph(graph) == []
    assert check_graph(replace(graph, nodes=graph.nodes[::-1])) == [
        "node 0 (tanh): reads %y before it is written"
    ]
    assert check_graph(replace(graph, nodes=graph.nodes[:1] * 2)) == [
        "node 1 (exp): %y is written twice, or is an input or a constant",
        "output %z is never written",
        "tensor %z is never written",
    ]
    wrong = parse_graph(text.format(extent=3), OPS)
    assert "node 0 (exp): writes %y: f32[3] but the op gives f32[4]" in check_graph(wrong)


def test_spelled_out_gates_are_one_function() -> None:
    after = optimized(
        read("""
            input %x: f32[40]
            constant %half: f32[] = [0.5]
            constant %one: f32[] = [1]
            constant %three: f32[] = [3]
            constant %six: f32[1] = [6]
            constant %root: f32[] = [1.4142135]

            %sigmoid = Unary("sigmoid")(%x)
            %silu = Binary("mul")(%x, %sigmoid)

            %shifted = Binary("add")(%x, %three)
            %clamped = Unary("clamp", [0.0, 6.0])(%shifted)
            %part = Binary("div")(%clamped, %six)
            %swish = Binary("mul")(%x, %part)

            %softplus = Unary("softplus")(%x)
            %tanh = Unary("tanh")(%softplus)
            %mish = Binary("mul")(%tanh, %x)

            %narrow = Binary("div")(%x, %root)
            %erf = Unary("erf")(%narrow)
            %above = Binary("add")(%erf, %one)
            %twice = Binary("mul")(%x, %above)
            %gelu = Binary("mul")(%twice, %half)

            output %silu
            output %swish
            output %mish
            output %gelu
        """)
    )
    assert nodes_of(after) == [
        '%silu = Unary(function="silu")(%x)',
        '%swish = Unary(function="hard_swish")(%x)',
        '%mish = Unary(function="mish")(%x)',
        '%gelu = Unary(function="gelu")(%x)',
    ]


def test_a_gate_of_another_tensor_stays() -> None:
    b = Builder()
    x, y = b.input("x", 40), b.input("y", 40)
    z = b.op(Binary("mul"), x, b.op(Unary("sigmoid"), y))
    v = b.op(Binary("mul"), x, b.op(Unary("sigmoid"), b.op(Binary("mul"), x, b.const(np.array(1.01)))))
    assert ops(optimized(b.graph(z, v))).count("Binary") == 3
