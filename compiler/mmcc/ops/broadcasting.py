# SPDX-License-Identifier: Apache-2.0
"""Operands of different shapes, repeated to one shape as numpy and ONNX do it."""

from __future__ import annotations

import numpy as np

from mmcc.ir.nest import CONSTANT, Access, Nest
from mmcc.ir.op import ShapeError
from mmcc.ir.types import Shape
from mmcc.ops.movement import output_loops


def broadcast_shape(*inputs: Shape) -> Shape:
    """The shape that numpy's broadcasting gives; ShapeError if there is none."""
    try:
        return np.broadcast_shapes(*inputs)
    except ValueError:
        raise ShapeError(f"shapes {[list(x) for x in inputs]} do not broadcast") from None


def broadcast_nest(*inputs: Shape) -> Nest:
    """One loop an axis of the output; an operand's axis of extent 1 is read at 0."""
    y = broadcast_shape(*inputs)
    loops = output_loops(y)
    reads: list[Access] = []
    for k, x in enumerate(inputs):
        own = loops[len(loops) - len(x) :]
        index = tuple(
            CONSTANT if n == 1 and loop.extent != 1 else loop.i for n, loop in zip(x, own, strict=True)
        )
        reads.append(Access(k, x, index))
    return Nest(loops, tuple(reads), (Access(0, y, tuple(loop.i for loop in loops)),))
