"""Elementwise int8 operators: the geometry of the output, operands with broadcast strides."""

from __future__ import annotations

import numpy as np

from mmcc.codegen.layers import Site, layer
from mmcc.codegen.layers.epilogue import RAISED, epilogue
from mmcc.ir.program import Field, KernelUse
from mmcc.ops.elementwise import AddInt8, Lookup, MulInt8
from mmcc.ops.quantize import FlipSign

HIGH_WORD = 32
MAX_LEFT = 23  # int8 values shifted by more leave 32 bits


@layer(Lookup)
def lookup(op: Lookup, site: Site) -> KernelUse:
    """One table look-up an element."""
    return KernelUse(
        "lookup",
        (),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("table", site.keep("table", site.inputs[1].constant())),
            ("channels", site.output.geometry[2]),
        ),
    )


@layer(FlipSign)
def flip_sign(op: FlipSign, site: Site) -> KernelUse:
    """The top bit of every byte."""
    fields = (("x", site.read(0)), ("y", site.output.where()), ("channels", site.output.geometry[2]))
    return KernelUse("flip_sign", (), fields)


@layer(AddInt8)
def add_int8(op: AddInt8, site: Site) -> KernelUse:
    """Both zero points and the rounding in one constant; operands shifted left until the high word counts."""
    left = max(0, HIGH_WORD - op.shift)
    high = left <= MAX_LEFT
    left = left if high else 0
    zeros = sum(zero * multiplier for zero, multiplier in zip(op.zeros, op.multipliers, strict=True))
    offset = (1 << (op.shift - 1)) - zeros << left
    full = (op.low, op.high) == (-128, 127)
    fields: list[tuple[str, Field]] = [
        ("a", site.read(0)),
        ("b", site.read(1)),
        ("y", site.output.where()),
        ("a_multiplier", op.multipliers[0]),
        ("b_multiplier", op.multipliers[1]),
        ("offset_high", offset >> 32),
        ("offset_low", offset & 0xFFFFFFFF),
        ("channels", site.output.geometry[2]),
        ("right", op.shift + left - HIGH_WORD) if high else ("shift", op.shift),
        ("zero", op.y_zero + RAISED),
        *([("left", left)] if left else []),
        *([] if full else [("low", op.low + RAISED), ("high", op.high + RAISED)]),
    ]
    options = (
        ("form", "high" if high else "wide"),
        ("full", full),
        ("left", left > 0),
        ("a_channel_stride", site.channel_stride(0)),
        ("b_channel_stride", site.channel_stride(1)),
    )
    return KernelUse("add_int8", options, tuple(fields))


@layer(MulInt8)
def mul_int8(op: MulInt8, site: Site) -> KernelUse:
    """One product and one requantization an element."""
    a, b = (max(127 - zero, zero + 128) for zero in op.zeros)
    scale = (np.array([op.multiplier], np.int32), np.array([op.shift], np.int8))
    tail = epilogue(a * b, *scale, op.y_zero, (op.low, op.high))
    return KernelUse(
        "mul_int8",
        (
            *tail.options,
            ("a_channel_stride", site.channel_stride(0)),
            ("b_channel_stride", site.channel_stride(1)),
        ),
        (
            ("a", site.read(0)),
            ("b", site.read(1)),
            ("y", site.output.where()),
            ("multiplier", op.multiplier),
            *tail.fields,
            ("channels", site.output.geometry[2]),
            ("shift", int(tail.shift[0])),
            ("a_zero", op.zeros[0]),
            ("b_zero", op.zeros[1]),
        ),
    )
