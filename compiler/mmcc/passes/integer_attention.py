# SPDX-License-Identifier: Apache-2.0
"""Integer forms of what transformers add to layers: products of two activations, and LayerNorm."""

from __future__ import annotations

from math import floor, log2

import numpy as np

from mmcc.ir.graph import Node
from mmcc.ops.layer_norm import LayerNorm, LayerNormInt8, normal_bits
from mmcc.ops.matmul import MatMul, MatMulInt8
from mmcc.ops.requantize import multiplier_and_shift
from mmcc.passes.draft import Draft
from mmcc.passes.fold import constant_value
from mmcc.passes.quantized import INT32, Form, StaysFloat, Target, real, source_of

LONGEST = 1 << 14  # of a row: its sums of squares fit 32 bits
FRACTION = 24  # bits of a row's variance below one, at most
VARIANCE_BITS = 63
LEAST_SHIFT = 10  # bits of outputs below a step, at least


def matmul_form(draft: Draft, node: Node, target: Target) -> Form:
    """Both zero points are subtracted from exact products; one rounding."""
    op = node.op
    assert isinstance(op, MatMul)
    a, b = (source_of(draft, name) for name in node.inputs)
    inner = draft.tensors[a.name].shape[-1]
    if 2 * inner * 255 * 255 > INT32:
        raise StaysFloat(f"the sum of {inner} products may not fit 32 bits")
    scale = real(a.quant.scale) * real(b.quant.scale) / real(target.quant.scale)
    zeros = a.quant.zero_point, b.quant.zero_point
    multiplier, shift = multiplier_and_shift(scale)
    form = MatMulInt8(op.operands, zeros, multiplier, shift, target.quant.zero_point, target.low, target.high)
    return form, (a.name, b.name)


def layer_norm_form(draft: Draft, node: Node, target: Target) -> Form:
    """Scale and bias in units of the output's step; epsilon in units of the sums."""
    op = node.op
    assert isinstance(op, LayerNorm)
    x = source_of(draft, node.inputs[0])
    length = draft.tensors[x.name].shape[-1]
    parameters = [constant_value(draft, name) for name in node.inputs[1:]]
    step = real(target.quant.scale)
    known = [each.astype(np.float64) / step for each in parameters if each is not None]
    if len(known) < len(parameters) or length > LONGEST:
        raise StaysFloat(f"its parameters are not constant, or its rows longer than {LONGEST}")
    scale = known[0] if op.centred else known[0] * np.sqrt(length)
    bias = known[1] if len(known) > 1 else np.zeros(length)
    fraction, epsilon = variance_units(op, length, real(x.quant.scale), 128.0 if op.centred else 255.0)
    bits, shift = _shift(scale, bias, normal_bits(length, op.centred))
    half = 1 << (shift - 1)
    start = np.rint(bias * 2.0**shift).astype(np.int64) + (target.quant.zero_point << shift) + half
    form = LayerNormInt8(op.centred, x.quant.zero_point, epsilon, fraction, shift, target.low, target.high)
    names = (
        draft.constant(np.rint(scale * 2.0**bits).astype(np.int32), f"{node.output}_scale"),
        draft.constant(start.astype(np.int32), f"{node.output}_bias"),
    )
    return form, (x.name, *names)


def variance_units(op: LayerNorm, length: int, step: float, most: float) -> tuple[int, int]:
    """Bits of fraction of a row's variance, in units of squares of the input's step, and epsilon in these;
    no value is further than `most` from the middle of all, or from the zero point where that counts."""
    units = length * length if op.centred else length
    epsilon = op.epsilon * units / step**2
    largest = units * most**2 + epsilon
    if not 0 <= epsilon < 2.0**VARIANCE_BITS:
        raise StaysFloat("its epsilon is out of all proportion to its input's scale")
    fraction = min(FRACTION, VARIANCE_BITS - 1 - floor(log2(largest))) & ~1
    if fraction < 0:
        raise StaysFloat("its epsilon is out of all proportion to its input's scale")
    return fraction, round(epsilon * 2.0**fraction)


def _shift(scale: np.ndarray, bias: np.ndarray, normal: int) -> tuple[int, int]:
    """Bits of fraction of the scale, and of outputs before they are rounded: the most that 32 bits hold."""
    top = float(np.abs(scale).max())
    most = 30 - floor(log2(float(np.abs(bias).max()) + 260)) - 1
    bits = 30 - floor(log2(top)) - 1 if top > 0 else 0
    bits = min(bits, most + 32 - normal)
    shift = normal + bits - 32
    if shift < LEAST_SHIFT:
        raise StaysFloat("its parameters are too large for its output's scale")
    return bits, shift
