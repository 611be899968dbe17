# SPDX-License-Identifier: Apache-2.0
"""Integer forms of 16 bits of what computes whole lines of activations: products, Softmax, LayerNorm."""

from __future__ import annotations

from math import frexp

import numpy as np

from mmcc.ir.graph import Node
from mmcc.ops.layer_norm import LayerNorm, LayerNormInt16, normal_bits
from mmcc.ops.matmul import MatMul, MatMulInt16
from mmcc.ops.requantize import MAX_SHIFT, multiplier_and_shift
from mmcc.ops.softmax import EXP_BITS, RATE_BITS, Softmax, SoftmaxInt16, power_rate
from mmcc.passes.draft import Draft
from mmcc.passes.fold import constant_value
from mmcc.passes.integer_attention import LONGEST, variance_units
from mmcc.passes.quantized import Form, StaysFloat, Target, real, source_of_16

WIDE = 33  # shift of a product of which only the high word counts, at least
MOST_SUMMED = 1 << 22  # products whose sum float64, in which the reference sums, has exactly
PARAMETER_BITS = 29  # of the largest scale and of the largest bias of a line
LEAST_SHIFT = 16  # bits of outputs below a step, at least


def matmul_form_16(draft: Draft, node: Node, target: Target) -> Form:
    """Exact sums in 64 bits, one rounding."""
    op = node.op
    assert isinstance(op, MatMul)
    a, b = (source_of_16(draft, name) for name in node.inputs)
    multiplier, shift = multiplier_and_shift(
        real(a.quant.scale) * real(b.quant.scale) / real(target.quant.scale)
    )
    if not WIDE <= shift <= MAX_SHIFT or draft.tensors[a.name].shape[-1] > MOST_SUMMED:
        raise StaysFloat("its scale is out of all proportion to those of its operands")
    return MatMulInt16(op.operands, multiplier, shift, target.low, target.high), (a.name, b.name)


def softmax_form_16(draft: Draft, node: Node, target: Target) -> Form:
    """The input's step in powers of two, and the output's as a factor of 31 bits."""
    op = node.op
    assert isinstance(op, Softmax)
    if op.log:
        raise StaysFloat(f"there is no form of {op} for int16")
    x = source_of_16(draft, node.inputs[0])
    rate = power_rate(real(x.quant.scale))
    inverse, shift = multiplier_and_shift(1 / real(target.quant.scale))
    if rate >= 1 << RATE_BITS or not WIDE <= EXP_BITS + shift <= MAX_SHIFT:
        raise StaysFloat("the step of its input or of its output is too large or too small")
    return SoftmaxInt16(rate, inverse, EXP_BITS + shift, target.low, target.high), (x.name,)


def layer_norm_form_16(draft: Draft, node: Node, target: Target) -> Form:
    """Scale and bias in units of the output's step; epsilon in units of the sums."""
    op = node.op
    assert isinstance(op, LayerNorm)
    x = source_of_16(draft, node.inputs[0])
    length = draft.tensors[x.name].shape[-1]
    step = real(target.quant.scale)
    parameters = [constant_value(draft, name) for name in node.inputs[1:]]
    known = [each.astype(np.float64) / step for each in parameters if each is not None]
    if len(known) < len(parameters) or length > LONGEST:
        raise StaysFloat(f"its parameters are not constant, or its rows longer than {LONGEST}")
    scale = known[0] if op.centred else known[0] * np.sqrt(length)
    bias = known[1] if len(known) > 1 else np.zeros(length)
    fraction, epsilon = variance_units(op, length, real(x.quant.scale), 2.0**15)
    normal = normal_bits(length, op.centred)
    # where scales are small, or 0, fewer of their bits count than would make the bias leave 64 bits
    shift = min(normal + _bits(scale), MAX_SHIFT - 1 - PARAMETER_BITS + _bits(bias))
    below = min(_bits(bias), shift)
    if shift < LEAST_SHIFT or below < 0:
        raise StaysFloat("its parameters are too large for its output's scale")
    form = LayerNormInt16(op.centred, epsilon, fraction, shift - below, shift, target.low, target.high)
    names = (
        draft.constant(np.rint(scale * 2.0 ** (shift - normal)).astype(np.int32), f"{node.output}_scale"),
        draft.constant(np.rint(bias * 2.0**below).astype(np.int32), f"{node.output}_bias"),
    )
    return form, (x.name, *names)


def _bits(numbers: np.ndarray) -> int:
    """Bits of fraction with which the largest number has PARAMETER_BITS, or less."""
    return PARAMETER_BITS - frexp(float(np.abs(numbers).max(initial=0)) + 1)[1]
