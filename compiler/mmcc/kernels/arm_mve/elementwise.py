# SPDX-License-Identifier: Apache-2.0
"""Elementwise int8 operators on Armv8.1-M vectors (Helium), where 32-bit lanes are exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.program import KernelUse
from mmcc.kernels.epilogue import Fields, epilogue
from mmcc.kernels.portable.elementwise_int8 import short_sum
from mmcc.kernels.select import Site, variant_layer
from mmcc.ops.elementwise_int8 import AddInt8, Lookup, MulInt8


def operands(site: Site) -> tuple[tuple[int, int], Fields, int]:
    """Which operand is `a` and which `b`, their views, and b's channel stride: `a` has all channels."""
    first, second = (0, 1) if site.channel_stride(0) else (1, 0)
    fields: Fields = (("a", site.read(first)), ("b", site.read(second)), ("y", site.output.where()))
    return (first, second), fields, site.channel_stride(second)


@variant_layer("arm_mve", AddInt8)
def add_int8(op: AddInt8, site: Site) -> KernelUse | None:
    """Sums in lanes of 32 bits, where these are exact."""
    order, fields, stride = operands(site)
    full, short = (op.low, op.high) == (-128, 127), short_sum(op)
    if short is None:
        return None
    times = (short.times_a, short.times_b)
    return KernelUse(
        "mve_add_int8",
        (
            ("order", order),
            ("b_channel_stride", stride),
            ("bits", short.bits),
            ("full", full),
        ),
        (
            *fields,
            ("offset", short.offset),
            ("a_multiplier", times[order[0]]),
            ("b_multiplier", times[order[1]]),
            ("channels", site.output.geometry[2]),
            *(() if full else (("low", op.low), ("high", op.high))),
        ),
    )


@variant_layer("arm_mve", MulInt8)
def mul_int8(op: MulInt8, site: Site) -> KernelUse | None:
    """One product and one requantization an element."""
    order, fields, stride = operands(site)
    zeros = tuple(op.zeros[k] for k in order)
    most = [max(127 - zero, zero + 128) for zero in zeros]
    scale = (np.array([op.multiplier], np.int32), np.array([op.shift], np.int8))
    end = epilogue(most[0] * most[1], *scale, op.y_zero, (op.low, op.high))
    form = dict(end.options)["requantize"]
    if form == "wide":
        return None
    return KernelUse(
        "mve_mul_int8",
        (("order", order), ("b_channel_stride", stride)),
        (
            *fields,
            ("multiplier", op.multiplier),
            ("channels", site.output.geometry[2]),
            ("left", dict(end.fields).get("left", 0)),
            ("right", int(end.tail[0]) + 1),
            ("a_zero", zeros[0]),
            ("b_zero", zeros[1]),
            ("y_zero", op.y_zero),
            ("low", op.low),
            ("high", op.high),
        ),
    )


@variant_layer("arm_mve", Lookup)
def lookup(op: Lookup, site: Site) -> KernelUse:
    """Sixteen look-ups an instruction; the table is in the order of the values' unsigned bytes."""
    table: NDArray[np.int8] = np.roll(site.inputs[1].constant(), 128)
    return KernelUse(
        "mve_lookup",
        (),
        (
            ("x", site.read(0)),
            ("y", site.output.where()),
            ("table", site.keep("table", table)),
            ("channels", site.output.geometry[2]),
        ),
    )
