# SPDX-License-Identifier: Apache-2.0
"""The integer form of one float op between Dequantize and Quantize, with all its constants."""

from __future__ import annotations

from collections.abc import Callable
from math import frexp, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Node
from mmcc.ir.op import Op
from mmcc.ir.types import Quant
from mmcc.ops.activation import Activation, Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.elementwise import Binary, Where
from mmcc.ops.elementwise_int8 import EVERY, AddInt8, Lookup, MulInt8
from mmcc.ops.layer_norm import LayerNorm
from mmcc.ops.matmul import MatMul
from mmcc.ops.pool import AveragePool, AveragePoolInt8, window_counts
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.reduce import MeanInt8, Reduce
from mmcc.ops.requantize import MAX_SHIFT, MIN_SHIFT, multiplier_and_shift, multipliers_and_shifts
from mmcc.ops.resize import LINEAR_TAPS, ROW_BITS, ResizeInt8, ResizeLinear
from mmcc.ops.softmax import Softmax, SoftmaxInt8, exp_table
from mmcc.passes.draft import Draft
from mmcc.passes.fold import constant_value
from mmcc.passes.integer_attention import layer_norm_form, matmul_form
from mmcc.passes.integer_layers import conv_form, conv_transpose_form, dense_form
from mmcc.passes.integer_recurrent import recurrent_form
from mmcc.passes.quantized import INT32, Form, Source, StaysFloat, Target, real, source_of

LARGEST = 255  # integer of 8 bits, less its zero point
UNSURE = 2.0**-7  # of a step, by which a sum may be off: with more, too many are rounded to the other side


def integer_form(draft: Draft, node: Node, quantize: Quantize, clamps: list[Clamp]) -> Form:
    """The op and operands that compute node, clamps and quantize at once; raises StaysFloat."""
    convert = FORMS.get(type(node.op))
    if convert is None:
        raise StaysFloat(f"there is no integer form of {node.op}")
    activation: Activation | None = getattr(node.op, "activation", None)
    if activation is not None and not isinstance(activation, Clamp):
        raise StaysFloat(f"the model does not quantize between it and its {activation}")
    inner = [activation] if activation is not None else []
    target = Target(Quant(quantize.scale, quantize.zero_point), *clamp_range(quantize, [*inner, *clamps]))
    try:
        return convert(draft, node, target)
    except ValueError as error:  # from multiplier_and_shift
        raise StaysFloat(str(error)) from None


def clamp_range(quantize: Quantize, clamps: list[Clamp]) -> tuple[int, int]:
    """What the clamps' bounds become when quantized; exact, since quantizing never changes an order."""
    low, high = int(quantize.dtype.least), int(quantize.dtype.most)
    for clamp in clamps:
        (ends,) = quantize.reference(np.array([clamp.low, clamp.high], np.float32))
        low, high = (min(max(bound, int(ends[0])), int(ends[1])) for bound in (low, high))
    return low, high


def _average_pool(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, AveragePool)
    x = source_of(draft, node.inputs[0])
    ratio = real(x.quant.scale) / real(target.quant.scale)
    found = window_counts(op.window, op.counted, draft.tensors[x.name].shape)
    if found.min() == 0:
        raise StaysFloat("one of its windows lies in the padding")
    counts = np.arange(1, prod(op.window.kernel) + 1)
    if found.min() == found.max():
        counts = found.reshape(-1)[:1]
    multiplier, shift = multipliers_and_shifts(ratio / counts)
    zeros = x.quant.zero_point, target.quant.zero_point
    form = AveragePoolInt8(op.window, *zeros, op.counted, target.low, target.high)
    names = (
        draft.constant(multiplier, f"{node.output}_multiplier"),
        draft.constant(shift, f"{node.output}_shift"),
    )
    return form, (x.name, *names)


def _reduce(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Reduce)
    x = source_of(draft, node.inputs[0])
    scale = mean_scale(draft, op, x, target, INT32 // LARGEST)
    zeros = x.quant.zero_point, target.quant.zero_point
    return MeanInt8(op.axes, *zeros, *scale, target.low, target.high), (x.name,)


def mean_scale(draft: Draft, op: Reduce, x: Source, target: Target, most: int) -> tuple[int, int]:
    """Multiplier and shift that make a mean or a sum of one; StaysFloat for other functions, and if `most`
    elements are fewer than it takes, since their sum may not fit 32 bits."""
    if op.function not in ("mean", "sum"):
        raise StaysFloat(f"there is no integer form of {op}")
    count = prod(draft.tensors[x.name].shape[axis] for axis in op.axes)
    if count > most:
        raise StaysFloat(f"the sum of {count} elements may not fit 32 bits")
    ratio = real(x.quant.scale) / real(target.quant.scale)
    return multiplier_and_shift(ratio / count if op.function == "mean" else ratio)


def _binary(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Binary)
    if op.function not in ("add", "sub", "mul"):
        raise StaysFloat(f"there is no integer form of {op} on two tensors")
    a, b = (source_of(draft, name) for name in node.inputs)
    zeros = a.quant.zero_point, b.quant.zero_point
    y_scale = real(target.quant.scale)
    if op.function == "mul":
        multiplier, shift = multiplier_and_shift(real(a.quant.scale) * real(b.quant.scale) / y_scale)
        form: Op = MulInt8(zeros, multiplier, shift, target.quant.zero_point, target.low, target.high)
        return form, (a.name, b.name)
    sign = -1 if op.function == "sub" else 1
    scales = real(a.quant.scale) / y_scale, sign * real(b.quant.scale) / y_scale
    multipliers, shift = common_shift(*scales, LARGEST)
    form = AddInt8(zeros, multipliers, shift, target.quant.zero_point, target.low, target.high)
    return form, (a.name, b.name)


def common_shift(first: float, second: float, largest: int) -> tuple[tuple[int, int], int]:
    """Two multipliers over one power of two: as many bits as int32 has for the larger one.

    ValueError if those of the smaller are too few for integers up to `largest`.
    """
    _, shift = multiplier_and_shift(max(abs(first), abs(second)))
    shift = min(max(shift, MIN_SHIFT), MAX_SHIFT)
    multipliers = round(first * 2.0**shift), round(second * 2.0**shift)
    for multiplier, factor in zip(multipliers, (first, second), strict=True):
        if abs(multiplier * 2.0**-shift - factor) * largest > UNSURE:
            raise ValueError(f"factors of {first:.3g} and {second:.3g} are too different for one shift")
    return multipliers, shift


def _softmax(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, Softmax)
    if op.log:
        raise StaysFloat(f"there is no integer form of {op}")
    x = source_of(draft, node.inputs[0])
    y_inverse = round(2**16 / real(target.quant.scale))
    if not 0 < y_inverse <= INT32 or draft.tensors[x.name].shape[-1] > 512:
        raise StaysFloat("its output scale is too small or its last axis longer than 512")
    if (target.low, target.high) != (-128, 127):
        raise StaysFloat("it is clamped")
    table = draft.constant(exp_table(real(x.quant.scale)).astype(np.int32), f"{node.output}_exp")
    return SoftmaxInt8(y_inverse, target.quant.zero_point), (x.name, table)


def _resize(draft: Draft, node: Node, target: Target) -> Form:
    op = node.op
    assert isinstance(op, ResizeLinear)
    if op.taps != LINEAR_TAPS:
        raise StaysFloat("a Resize of more than two elements along an axis has no integer form")
    x = source_of(draft, node.inputs[0])
    row_weight, col_weight = (draft.constants.get(draft.now(name)) for name in node.inputs[1:])
    if row_weight is None or col_weight is None:
        raise StaysFloat("its weights are not constant")
    scaled = col_weight.astype(np.float64) * (real(x.quant.scale) / real(target.quant.scale))
    shift = ROW_BITS - frexp(float(np.abs(scaled).max()))[1]
    if not 1 <= shift <= MAX_SHIFT or np.abs(row_weight).max() >= 2:
        raise StaysFloat("the scales of its input and output are too far apart")
    rows = np.rint(row_weight.astype(np.float64) * 2.0**ROW_BITS).astype(np.int32)
    cols = np.rint(scaled * 2.0**shift).astype(np.int32)
    zeros = x.quant.zero_point, target.quant.zero_point
    form = ResizeInt8(op.row_first, op.col_first, *zeros, shift, target.low, target.high)
    names = (draft.constant(rows, f"{node.output}_rows"), draft.constant(cols, f"{node.output}_columns"))
    return form, (x.name, *names)


def _where(draft: Draft, node: Node, target: Target) -> Form:
    """A choice of integers that mean the same: to choose and to round each element are one in any order."""
    quant = target.quant
    rounded = Quantize(quant.scale, quant.zero_point)

    def stored(real_values: NDArray[Any]) -> NDArray[Any]:
        return np.clip(rounded.reference(real_values)[0], target.low, target.high).astype(np.int8)

    condition, *choices = node.inputs
    names = [condition]
    for name in choices:
        value = constant_value(draft, draft.now(name))
        if value is not None:
            names.append(draft.constant(stored(value), f"{name}_q"))
            continue
        x = source_of(draft, name)
        table = stored(Dequantize(x.quant.scale, x.quant.zero_point).reference(EVERY)[0])
        if np.array_equal(table, EVERY):
            names.append(x.name)
        else:
            listed = draft.constant(table, f"{name}_table")
            names.append(draft.add(Lookup(), (x.name, listed), f"{name}_q", node.where, quant))
    return Where(), tuple(names)


FORMS: dict[type[Any], Callable[[Draft, Node, Target], Form]] = {
    Conv: conv_form,
    ConvTranspose: conv_transpose_form,
    Dense: dense_form,
    LayerNorm: layer_norm_form,
    MatMul: matmul_form,
    Recurrent: recurrent_form,
    AveragePool: _average_pool,
    Reduce: _reduce,
    Binary: _binary,
    ResizeLinear: _resize,
    Softmax: _softmax,
    Where: _where,
}
