# SPDX-License-Identifier: Apache-2.0
"""The passes on quantized graphs: which integer ops come out, and that they agree with the float steps."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from graphs import Builder, ops, run
from ir_text import nodes_of, read
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.types import Quant
from mmcc.ir.verify import check_final, check_graph
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense, DenseInt8
from mmcc.ops.elementwise import Binary, Cast, Unary
from mmcc.ops.movement import Concat, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.ops.reduce import ArgMax, Reduce
from mmcc.ops.resize import ResizeNearest
from mmcc.ops.softmax import Softmax
from mmcc.ops.window import Window
from mmcc.passes import PASSES, optimize
from mmcc.passes.integer import common_shift
from mmcc.passes.integer_layers import accumulator_bound

pytestmark = pytest.mark.quick
RNG = np.random.default_rng(11)
SAME = Window((3, 3), pads=(1, 1, 1, 1))


def optimized(before: Graph, steps: float = 0, *, scale: float = 1.0) -> Graph:
    """Every pass, checked; results differ by at most `steps` of `scale`, nearly always by none."""
    graph = before
    for step in PASSES:
        graph = step(graph)
        assert check_graph(graph) == [], step
    assert check_final(graph) == []
    wrong = count = 0
    for after in (graph, optimize(before, float_io=True)):
        for _ in range(8):
            inputs = [sample(port.onnx_shape, port.onnx_dtype) for port in before.inputs]
            for a, b in zip(run(before, *inputs), run(after, *inputs), strict=True):
                difference = np.abs(a.astype(np.float64) - b)
                assert difference.max() <= (steps + 1e-4) * scale
                wrong, count = wrong + int((difference > 0.5 * scale).sum()), count + a.size
    assert wrong <= max(2, 0.02 * count)
    return optimize(before)


def sample(shape: tuple[int, ...], dtype: ElementType) -> np.ndarray:
    if dtype == ElementType.F32:
        return RNG.uniform(-3, 3, shape).astype(np.float32)
    info = np.iinfo(dtype.numpy)
    return RNG.integers(info.min, info.max, shape, dtype=dtype.numpy, endpoint=True)


def weights(
    b: Builder, shape: tuple[int, ...], x_scale: float, *, per_channel: bool = True
) -> tuple[str, str]:
    """Dequantized weights and bias, as quantizers write them."""
    count = shape[0] if per_channel else 1
    scales = RNG.uniform(0.002, 0.01, count).astype(np.float32)
    axis = 0 if per_channel else None
    w = b.dequantized(RNG.integers(-127, 128, shape, dtype=np.int8), scales, 0, axis)
    bias = RNG.integers(-3000, 3000, shape[0], dtype=np.int32)
    return w, b.dequantized(bias, np.float32(x_scale) * scales, 0, axis)


def test_a_convolution_with_relu6() -> None:
    before = read("""
        input %x: f32[4,4,2]
        constant %w: i8[3,3,3,2] = random 1
        constant %b: i32[3] = [-3000, 7, 2500]
        %xq = Quantize(0.05, 3)(%x)
        %xd = Dequantize(0.05, 3)(%xq)
        %wd = DequantizeConstant([0.002, 0.005, 0.01], [0, 0, 0], 0)(%w)
        %bd = DequantizeConstant([0.0001, 0.00025, 0.0005], [0, 0, 0], 0)(%b)
        %conv = Conv(Window([3, 3], pads=[1, 1, 1, 1]))(%xd, %wd, %bd) at Where("m", 0, "Conv", "")
        %clamped = Unary("clamp", [0.0, 6.0])(%conv) at Where("m", 1, "Clip", "")
        %yq = Quantize(0.04, -100)(%clamped) at Where("m", 2, "QuantizeLinear", "")
        %y = Dequantize(0.04, -100)(%yq)
        output %y
    """)
    after = optimized(before, 1, scale=0.04)
    assert nodes_of(after) == [
        "%yq = ConvInt8(window=Window(kernel=[3, 3], pads=[1, 1, 1, 1]), "
        "x_zero=3, y_zero=-100, low=-100, high=50)"
        "(%x, %w, %clamped_bias, %clamped_multiplier, %clamped_shift)"
    ]
    assert after.inputs[0].quant == after.tensors["x"].quant == Quant(0.05, 3)
    assert after.outputs[0].quant == after.tensors["yq"].quant == Quant(0.04, -100)
    assert [w.op for w in after.nodes[0].where] == ["Conv", "Clip", "QuantizeLinear"]
    assert after.warnings == ()
    assert ops(optimize(before, float_io=True)) == ["Quantize", "ConvInt8", "Dequantize"]


@pytest.mark.parametrize("dtype", [ElementType.I8, ElementType.U8])
def test_layers_in_integers(dtype: ElementType) -> None:
    zero = 128 if dtype == ElementType.U8 else 0
    b = Builder()
    x = b.quantize(b.input("x", 5, 5, 4), 0.03, zero + 10, dtype)
    x = b.op(ConvTranspose(Window((2, 2), (2, 2)), (10, 10), 2), x, *weights(b, (6, 2, 2, 2), 0.03))
    x = b.quantize(x, 0.05, zero - 5, dtype)
    x = b.quantize(b.op(Conv(SAME, 6), x, *weights(b, (6, 3, 3, 1), 0.05)), 0.06, zero, dtype)
    x = b.quantize(b.op(Reduce("mean", (0, 1)), x), 0.02, zero + 3, dtype)
    x = b.op(Reshape((6,)), x)
    x = b.op(Dense(), x, *weights(b, (8, 6), 0.02, per_channel=False))
    x = b.quantize(x, 0.03, zero, dtype)
    after = optimized(b.graph(x), 3, scale=0.03)
    assert ops(after) == ["ConvTransposeInt8", "ConvInt8", "MeanInt8", "Reshape", "DenseInt8"]
    assert after.warnings == ()


def test_unsigned_inputs_and_outputs_flip_at_the_border() -> None:
    b = Builder()
    x = b.input("x", 4, 4, 2, dtype=ElementType.U8)
    y = b.op(Dequantize(0.05, 100), x)
    y = b.op(Conv(SAME), y, *weights(b, (3, 3, 3, 2), 0.05))
    q = b.op(Quantize(0.04, 120, ElementType.U8), y)
    q = b.op(Reshape((48,)), q)
    after = optimized(b.graph(q), 1)
    assert ops(after) == ["FlipSign", "ConvInt8", "Reshape", "FlipSign"]
    assert after.nodes[1].op == ConvInt8(SAME, -28, -8)


def test_a_cast_of_pixels_is_a_table() -> None:
    b = Builder()
    x = b.input("x", 4, 4, 2, dtype=ElementType.U8)
    y = b.op(Binary("mul"), b.op(Cast(ElementType.F32), x), b.const(np.array(1 / 255)))
    y = b.op(Binary("sub"), y, b.const(np.array([[0.5]])))
    after = optimized(b.graph(b.quantize(y, 0.01)))
    assert ops(after) == ["FlipSign", "Lookup"]


def test_unsigned_weights_with_a_zero_point() -> None:
    for low, high, expected in ((100, 160, 0), (0, 255, 3)):
        b = Builder()
        x = b.quantize(b.input("x", 6), 0.05, 3)
        w = b.dequantized(RNG.integers(low, high, (5, 6), dtype=np.uint8, endpoint=True), 0.01, 131)
        b.constants[b.nodes[-1].inputs[0]][0, :2] = low, high
        y = b.quantize(b.op(Dense(), x, w, b.const(np.zeros(5))), 0.05)
        after = optimized(b.graph(y), 1, scale=0.05)
        (node,) = after.nodes
        assert isinstance(node.op, DenseInt8)
        assert node.op.w_zero == expected


def test_elementwise_chains_are_one_exact_table() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 7, 3), 0.05, 3)
    y = b.op(Binary("mul"), b.op(Unary("sigmoid"), x), x)
    y = b.op(Binary("add"), y, b.const(np.array([0.25])))
    y = b.quantize(y, 0.03, -20)
    y = b.quantize(b.op(Unary("tanh"), y), 1 / 128, 0)
    y = b.quantize(y, 1 / 100, 5)
    after = optimized(b.graph(y))
    assert ops(after) == ["Lookup"]
    assert [w.op for w in after.nodes[0].where if w.op == "Quantize"] == ["Quantize"] * 3


def test_a_gate_between_quantized_tensors_is_one_table() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 7, 3), 0.05, 3)
    gate = b.quantize(b.op(Unary("hard_sigmoid", (0.2, 0.5)), x), 1 / 256, -128)
    y = b.quantize(b.op(Binary("mul"), x, gate), 0.03, -20)
    assert ops(optimized(b.graph(y))) == ["Lookup"]


def test_a_relu_after_quantization_narrows_the_layer() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 3)
    y = b.quantize(b.op(Dense(), x, *weights(b, (5, 6), 0.05)), 0.04, -7)
    y = b.quantize(b.op(Unary("clamp", (0.0, inf)), y), 0.04, -7)
    after = optimized(b.graph(y), 1, scale=0.04)
    assert [node.op for node in after.nodes] == [DenseInt8(3, -7, 0, -7, 127)]


def test_sums_and_products() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 3, 3, 4), 0.0512, 3)  # scales without a common unit: few ties
    y = b.quantize(b.input("y", 3, 3, 4), 0.0231, -9)
    z = b.quantize(b.op(Unary("clamp", (0.0, inf)), b.op(Binary("add"), x, y)), 0.0413, -128)
    v = b.quantize(b.op(Binary("sub"), z, x), 0.0629, 2)
    w = b.dequantized(RNG.integers(-128, 128, (4,), dtype=np.int8), 0.0117, 4)
    u = b.quantize(b.op(Binary("mul"), v, w), 0.05, 0)
    after = optimized(b.graph(u), 2, scale=0.05)
    assert ops(after) == ["AddInt8", "AddInt8", "MulInt8"]


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_a_window_in_the_padding_is_the_least_float(scale: float) -> None:
    """Whatever the scale of its input: that of int8 would be larger."""
    b = Builder()
    x = b.quantize(b.input("x", 2, 2, 2), 0.1)
    y = b.op(MaxPool(Window((2, 2), (1, 1), (3, 3), (1, 1, 1, 1))), x)
    graph = b.graph(b.quantize(y, scale))
    sample = np.linspace(-9, 9, 8, dtype=np.float32).reshape(2, 2, 2)
    (before,), (after,) = run(graph, sample), run(optimize(graph), sample)
    assert np.array_equal(before, after)
    assert before.tolist() == [[[-128 * np.float32(scale)] * 2]]


def test_pools_and_movement() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6, 6, 4), 0.05, 3)
    a = b.quantize(b.op(AveragePool(Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))), x), 0.04, 3)
    m = b.op(MaxPool(Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1))), x)
    m = b.quantize(m, 0.05, 3)
    c = b.quantize(b.op(Concat(2), a, m), 0.05, 3)
    c = b.op(ResizeNearest((0, 0, 1, 1), (0, 3, 5)), b.op(Slice((1, 0, 0), (1, 1, 1), (2, 6, 8)), c))
    c = b.quantize(b.op(Gather(2, (7, 0, 1)), c), 0.05, 3)
    c = b.quantize(b.op(Pad((1, 0, 0), (0, 0, 0)), c), 0.05, 3)
    after = optimized(b.graph(c), 1, scale=0.05)
    assert ops(after) == [
        "AveragePoolInt8",
        "MaxPool",
        "Lookup",
        "Concat",
        "Slice",
        "ResizeNearest",
        "Gather",
        "Pad",
    ]
    assert after.nodes[-1].op.value == 3
    counts = after.constants[after.nodes[0].inputs[1]]
    assert len(counts) == 9


@pytest.mark.parametrize("between", [False, True])
def test_a_pad_of_zeros_goes_into_the_window(between: bool) -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6, 6, 2), 0.05, 3)
    x = b.op(Pad((1, 0, 0), (2, 1, 0)), x)
    x = b.quantize(x, 0.05, 3) if between else x
    y = b.quantize(b.op(Conv(Window((3, 3))), x, *weights(b, (3, 3, 3, 2), 0.05)), 0.04, -100)
    after = optimized(b.graph(y), 1, scale=0.04)
    assert [node.op for node in after.nodes] == [ConvInt8(Window((3, 3), pads=(1, 0, 2, 1)), 3, -100)]


def test_quantization_moves_to_the_input() -> None:
    b = Builder()
    x = b.input("x", 2, 3, 4)
    y = b.op(Reshape((24,)), b.op(Transpose((1, 0, 2)), x))
    y = b.quantize(y, 0.05, 3)
    y = b.quantize(b.op(Dense(), y, *weights(b, (5, 24), 0.05)), 0.04)
    after = optimized(b.graph(y), 1, scale=0.04)
    assert ops(after) == ["Reshape", "DenseInt8"]
    assert after.tensors["x"].dtype == ElementType.I8


def test_integer_weights_take_in_a_transposition() -> None:
    b = Builder()
    x = b.quantize(b.op(MaxPool(Window((2, 2))), b.input("x", 4, 4, 5)), 0.05, 3)
    x = b.quantize(b.op(Transpose((2, 0, 1)), x), 0.05, 3)
    y = b.op(Dense(), b.op(Reshape((45,)), x), *weights(b, (6, 45), 0.05))
    after = optimized(b.graph(b.quantize(y, 0.04)), 1, scale=0.04)
    assert ops(after) == ["MaxPool", "Reshape", "DenseInt8"]


def test_softmax_and_arg_max() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 5, 9), 0.05, 3)
    y = b.quantize(b.op(Softmax(), x), 1 / 256, -128)
    after = optimized(b.graph(y, b.op(ArgMax(1), x)), 1, scale=1 / 256)
    assert sorted(ops(after)) == ["ArgMax", "SoftmaxInt8"]


def test_a_bias_that_is_no_whole_number_of_products_has_a_fraction() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 3)
    w, _ = weights(b, (5, 6), 0.05, per_channel=False)
    scale = b.nodes[-2].op.scales[0]
    bias = b.const(RNG.uniform(-1, 1, 5).astype(np.float32))
    y = b.quantize(b.op(Dense(), x, w, bias), 0.05)
    z = b.dequantized(RNG.integers(-100, 100, 5, dtype=np.int8), 0.01)
    z = b.op(Binary("add"), b.op(Dense(), x, w, b.const(np.zeros(5))), z)
    z = b.quantize(z, 0.05)
    after = optimized(b.graph(y, z), 1, scale=0.05)
    assert ops(after) == ["DenseInt8", "DenseInt8"]
    unit = 0.05 * scale
    bits = after.nodes[0].op.bias_bits
    stored = after.constants[after.nodes[0].inputs[2]]
    np.testing.assert_allclose(stored * unit / 2**bits, b.constants[bias], atol=0.05 * 2**-21)
    assert bits > 0


def test_float_islands_are_named_with_their_cost() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 4, 6), 0.05, 3)
    y = b.quantize(b.op(LocalResponseNorm(3, 1.0, 0.5, 1.0), x), 0.2, 0)
    z = b.op(
        Conv(Window((1, 1))),
        b.op(Reshape((4, 6, 1)), y),
        b.const(np.ones((2, 1, 1, 1))),
        b.const(np.zeros(2)),
    )
    after = optimized(b.graph(b.quantize(z, 0.2)), 1, scale=0.2)
    assert after.warnings == (
        'test, node 2 (LocalResponseNorm) "t2": local_response_norm<3> is computed in float, since there is '
        "no integer form of local_response_norm<3>; its float tensors take 192 bytes",
        'test, node 6 (Conv) "t6": conv<1x1> is computed in float, since its weights are not quantized; '
        "its float tensors take 288 bytes",
    )


def test_int16_activations_stay_float() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.001, 0, ElementType.I16)
    y = b.quantize(b.op(Dense(), x, *weights(b, (5, 6), 0.001)), 0.05)
    after = optimized(b.graph(y), 1, scale=0.05)
    assert ops(after) == ["Quantize", "Dequantize", "Dense", "Quantize"]
    assert "int16_t" in after.warnings[0]


def test_sums_beyond_32_bits_stay_float() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 0)
    w = b.dequantized(np.ones((1, 6), np.int8), 0.01)
    bias = b.dequantized(np.array([2**31 - 100], np.int32), float(np.float32(0.05) * np.float32(0.01)))
    y = b.quantize(b.op(Dense(), x, w, bias), 1e5)
    after = optimize(b.graph(y))
    assert "Dense" in ops(after)
    assert "does not fit 32 bits" in after.warnings[0]


def test_one_tensor_feeds_integers_and_an_island() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 3)
    y = b.quantize(b.op(Dense(), x, *weights(b, (5, 6), 0.05)), 0.05)
    z = b.op(Reduce("l2", (0,)), x)
    after = optimized(b.graph(y, z), 1, scale=0.05)
    assert sorted(ops(after)) == ["DenseInt8", "Dequantize", "Reduce"]
    assert len(after.warnings) == 1


def test_an_output_also_needed_in_float_is_computed_once() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 3)
    y = b.op(Dense(), x, *weights(b, (5, 6), 0.05))
    after = optimized(b.graph(b.quantize(y, 0.05), y), 1, scale=0.05)
    assert ops(after) == ["DenseInt8ToFloat", "Quantize"]
    assert "DenseInt8" not in ops(after)


def test_weights_quantized_in_the_model() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 3)
    w = b.quantize(b.const(RNG.uniform(-1, 1, (5, 6))), 0.01, 128, ElementType.U8)
    y = b.quantize(b.op(Dense(), x, w, b.const(np.zeros(5))), 0.05)
    assert ops(optimized(b.graph(y), 1, scale=0.05)) == ["DenseInt8"]


def test_accumulator_bound_covers_partial_sums() -> None:
    w = np.array([[127, -127], [1, 1]], np.int8)
    assert accumulator_bound(w, 0, np.array([5, -7]), -128) >= 254 * 255 + 5
    assert accumulator_bound(w, 3, np.zeros(2, np.int64), 0) >= 254 * 128


def test_common_shift_uses_the_bits_of_the_larger() -> None:
    (a, c), shift = common_shift(0.5, -0.001, 255)
    assert 2**30 <= a < 2**31
    assert abs(c / 2**shift + 0.001) < 1e-9
    assert common_shift(1e-30, 1e-31, 255) == ((0, 0), 1)


def test_no_pass_changes_its_input() -> None:
    b = Builder()
    x = b.quantize(b.input("x", 6), 0.05, 3)
    y = b.quantize(b.op(Dense(), x, *weights(b, (5, 6), 0.05)), 0.05)
    graph = b.graph(y)
    before = str(graph), replace(graph), {n: a.copy() for n, a in graph.constants.items()}
    optimize(graph)
    assert str(graph) == before[0]
    assert graph.tensors == before[1].tensors
    assert all(np.array_equal(graph.constants[n], a) for n, a in before[2].items())
