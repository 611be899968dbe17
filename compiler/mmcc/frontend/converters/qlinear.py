# SPDX-License-Identifier: Apache-2.0
"""Operators on quantized operands become Dequantize, the float operator, Quantize: one path for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmcc.frontend.broadcasting import elementwise, unary
from mmcc.frontend.call import Call
from mmcc.frontend.converters.convolution import conv
from mmcc.frontend.converters.matrix import gemm, matmul
from mmcc.frontend.converters.normalization import along_last_axis
from mmcc.frontend.converters.parts import concat
from mmcc.frontend.converters.pooling import average_pool, global_pool
from mmcc.frontend.converters.quantization import QUANTIZED, check_scales, dequantized, quantized
from mmcc.frontend.converters.windows import as_called, channels_last
from mmcc.frontend.problems import bad_model
from mmcc.frontend.registry import MICROSOFT, Layout, converts
from mmcc.frontend.value import Value
from mmcc.ops.elementwise import Binary, Unary
from mmcc.ops.softmax import Softmax


def dequantized_input(call: Call, at: int, axis: int | None = None) -> Value:
    """The float value of operands `at`, at + 1 (scale) and at + 2 (zero point)."""
    x = call.input(at)
    if x.dtype not in QUANTIZED:
        raise bad_model("MM104", f"operand {at} is {x.dtype.name}, not quantized")
    scale = call.needed(at + 1, "a scale")
    zeros = check_scales(scale, call.constant(at + 2, "a zero point"), x.dtype)
    if scale.size > 1 and (axis is None or x.rank <= axis or scale.size != x.shape[axis]):
        raise bad_model("MM107", f"{scale.size} scales for {list(x.shape)}")
    return dequantized(call.build, x, scale.reshape(-1), zeros.reshape(-1), axis if scale.size > 1 else None)


def quantized_output(call: Call, y: Value, at: int) -> Value:
    """The result in the type and with the parameters of operands `at` (scale) and at + 1 (zero point)."""
    scale = call.needed(at, "the output's scale")
    dtype = call.input(at + 1).dtype if call.has(at + 1) else call.input(0).dtype
    if dtype not in QUANTIZED:
        raise bad_model("MM104", f"the output's zero point is {dtype.name}")
    zeros = check_scales(scale, call.constant(at + 1, "the output's zero point"), dtype)
    if scale.size != 1:
        raise bad_model("MM107", f"{scale.size} scales for the output")
    return quantized(call.build, y, float(scale.reshape(-1)[0]), int(zeros.reshape(-1)[0]), dtype)


def dequantized_bias(call: Call, at: int, x_scale: int, w_scale: int) -> Value | None:
    """An int32 bias, whose scale is the product of those of input and weights."""
    if not call.has(at):
        return None
    product = call.needed(x_scale, "a scale") * call.needed(w_scale, "a scale").reshape(-1)
    zeros = check_scales(product, None, call.input(at).dtype)
    bias = call.input(at)
    if bias.dtype.numpy != np.int32 or bias.rank == 0:
        raise bad_model("MM104", f"a bias of {list(bias.shape)} {bias.dtype.name}")
    return dequantized(call.build, bias, product, zeros, bias.rank - 1 if product.size > 1 else None)


@converts("QLinearConv", since=10, notes="as Conv", layout=Layout.CHANNELS_FIRST)
def convert_qlinear_conv(call: Call) -> Value:
    """Conv; operands x, its scale and zero point, w likewise, the output's, the bias."""
    x, w = dequantized_input(call, 0), dequantized_input(call, 3, 0)
    return quantized_output(call, conv(call, x, w, dequantized_bias(call, 8, 1, 4)), 6)


@converts("QLinearConv", domain=MICROSOFT, notes="as Conv, with channels_last", layout=Layout.CHANNELS_FIRST)
def convert_qlinear_conv_microsoft(call: Call) -> Value:
    """QLinearConv of images that are channels-last, if the attribute says so."""
    x, w = channels_last(call, dequantized_input(call, 0)), dequantized_input(call, 3, 0)
    y = conv(call, x, w, dequantized_bias(call, 8, 1, 4))
    return quantized_output(call, as_called(call, y), 6)


@converts("QLinearMatMul", since=10, notes="as MatMul")
def convert_qlinear_matmul(call: Call) -> Value:
    """MatMul; operands a, its scale and zero point, b likewise, the output's."""
    b = call.input(3)
    y = matmul(call.build, dequantized_input(call, 0), dequantized_input(call, 3, b.rank - 1))
    return quantized_output(call, y, 6)


@converts("QGemm", domain=MICROSOFT, notes="as Gemm; a float result if no output scale is given")
def convert_qgemm(call: Call) -> Value:
    """Gemm; operands a, its scale and zero point, b likewise, C, the output's scale and zero point."""
    axis = 0 if call.integer("transB", 0) else 1
    a, b = dequantized_input(call, 0), dequantized_input(call, 3, axis)
    y = gemm(call, a, b, dequantized_bias(call, 6, 1, 4))
    return quantized_output(call, y, 7) if call.has(7) else y


@converts("QLinearAdd", "QLinearMul", domain=MICROSOFT, notes="broadcasting", layout=Layout.ANY)
def convert_qlinear_binary(call: Call) -> Value:
    """Add or Mul; operands a, its scale and zero point, b likewise, the output's."""
    op = Binary("add" if call.node.op_type == "QLinearAdd" else "mul")
    y = elementwise(call.build, op, dequantized_input(call, 0), dequantized_input(call, 3))
    return quantized_output(call, y, 6)


@converts("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT, layout=Layout.ANY)
def convert_qlinear_unary(call: Call) -> Value:
    """An activation; operands x, its scale and zero point, the output's."""
    sigmoid = call.node.op_type == "QLinearSigmoid"
    op = Unary("sigmoid") if sigmoid else Unary("leaky_relu", (call.finite("alpha", 0.01),))
    return quantized_output(call, unary(call.build, op, dequantized_input(call, 0)), 3)


@converts("QLinearSoftmax", domain=MICROSOFT, notes="as Softmax")
def convert_qlinear_softmax(call: Call) -> Value:
    """Softmax along one axis, or before operator set 13 (an attribute says it) along a flattened tail."""
    x = dequantized_input(call, 0)
    if x.rank == 0:
        raise bad_model("MM104", "Softmax of a scalar")
    axis = call.axis(x.rank, -1)
    axes = [axis] if call.integer("opset", 13) >= 13 else list(range(axis, x.rank))
    return quantized_output(call, along_last_axis(call.build, Softmax(), x, axes), 3)


@converts(
    "QLinearAveragePool",
    domain=MICROSOFT,
    notes="as AveragePool, with channels_last",
    layout=Layout.CHANNELS_FIRST,
)
def convert_qlinear_average_pool(call: Call) -> Value:
    """AveragePool; operands x, its scale and zero point, the output's."""
    y = average_pool(call, channels_last(call, dequantized_input(call, 0)))
    return quantized_output(call, as_called(call, y), 3)


@converts(
    "QLinearGlobalAveragePool",
    domain=MICROSOFT,
    notes="as GlobalAveragePool, with channels_last",
    layout=Layout.CHANNELS_FIRST,
)
def convert_qlinear_global_average_pool(call: Call) -> Value:
    """GlobalAveragePool; operands x, its scale and zero point, the output's."""
    y = global_pool(call, channels_last(call, dequantized_input(call, 0)), "mean")
    return quantized_output(call, as_called(call, y), 3)


@converts("QLinearConcat", domain=MICROSOFT, notes="as Concat", layout=Layout.ANY)
def convert_qlinear_concat(call: Call) -> Value:
    """Concat; operands the output's scale and zero point, then value, scale, zero point for each."""
    count, rest = divmod(len(call.inputs) - 2, 3)
    if count < 1 or rest:
        raise bad_model("MM103", f"{len(call.inputs)} operands")
    values = [dequantized_input(call, 2 + 3 * k) for k in range(count)]
    y = concat(call.build, values, call.axis(values[0].rank))
    shifted = replace(call, inputs=(call.input(2), *call.inputs[:2]))
    return quantized_output(shifted, y, 1)
