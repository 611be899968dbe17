# SPDX-License-Identifier: Apache-2.0
"""Normalization along the last axis, in float and in integers, where its parameters are constant."""

from __future__ import annotations

import numpy as np

from mmcc.ir.program import Field, KernelUse
from mmcc.kernels.epilogue import RAISED
from mmcc.kernels.portable.movement import source_view
from mmcc.kernels.select import Site, layer
from mmcc.ops.layer_norm import LayerNorm, LayerNormInt8, LayerNormInt16, normal_bits


@layer(LayerNorm)
def layer_norm(op: LayerNorm, site: Site) -> KernelUse:
    """A pixel holds one line, or several where the tensor has more than three axes."""
    return KernelUse(
        "layer_norm",
        (("centred", op.centred), ("bias", len(site.inputs) > 2)),
        (
            *_lines(site),
            *((f"x{k}", source_view(site, k)) for k in range(1, len(site.inputs))),
            ("epsilon", float(op.epsilon)),
        ),
        origins=len(site.inputs),
    )


@layer(LayerNormInt8)
def layer_norm_int8(op: LayerNormInt8, site: Site) -> KernelUse:
    """The bias carries outputs 128 too high, as other kernels do."""
    full = (op.low, op.high) == (-128, 127)
    scale, bias = (operand.constant() for operand in site.inputs[1:])
    raised = (bias.astype(np.int64) + (RAISED << op.shift)).astype(np.int32)
    return KernelUse(
        "layer_norm_int8",
        (("centred", op.centred), ("full", full)),
        (
            *_lines(site),
            ("scale", site.keep("scale", scale)),
            ("bias", site.keep("bias", raised)),
            *_variance(op, site),
            ("shift", op.shift),
            *((("x_zero", op.x_zero),) if not op.centred else ()),
            *((("low", op.low + RAISED), ("high", op.high + RAISED)) if not full else ()),
        ),
    )


@layer(LayerNormInt16)
def layer_norm_int16(op: LayerNormInt16, site: Site) -> KernelUse:
    """Sums of squares, and results before they are rounded, have 64 bits."""
    scale, bias = (operand.constant() for operand in site.inputs[1:])
    return KernelUse(
        "layer_norm_int16",
        (("centred", op.centred),),
        (
            *_lines(site),
            ("scale", site.keep("scale", scale)),
            ("bias", site.keep("bias", bias)),
            *_variance(op, site),
            ("up", op.up),
            ("shift", op.shift),
            ("low", op.low),
            ("high", op.high),
        ),
    )


def _variance(op: LayerNormInt8 | LayerNormInt16, site: Site) -> tuple[tuple[str, Field], ...]:
    """What is added to a line's variance, and how far its root is shifted."""
    return (
        ("epsilon_low", op.epsilon & 0xFFFFFFFF),
        ("epsilon_high", op.epsilon >> 32),
        ("fraction", op.fraction),
        ("down", 62 - op.fraction // 2 - normal_bits(site.output.shape[-1], op.centred)),
    )


def _lines(site: Site) -> tuple[tuple[str, Field], ...]:
    length = site.output.shape[-1]
    return (
        ("x", site.inputs[0].where()),
        ("y", site.output.where()),
        ("length", length),
        ("lines", site.output.geometry[2] // length),
    )
