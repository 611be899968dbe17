# SPDX-License-Identifier: Apache-2.0
"""What evaluating an op on constants costs: a file must not make the importer take all memory, or hours."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mmcc.ir.op import Op
from mmcc.ir.types import Shape
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.dense import Dense
from mmcc.ops.matmul import MatMul
from mmcc.ops.normalize import LocalResponseNorm
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.resize import ResizeLinear

MULTIPLIES_PER_BYTE = 512  # time is limited by the same budget


def scratch_bytes(op: Op, inputs: Sequence[Shape], output: Shape) -> int:
    """Bytes that an op's reference needs beside its result; 0 where a file cannot make that many."""
    if not inputs:
        return 0  # of a loop whose steps read nothing
    x = inputs[0]
    match op:
        case Conv(window) | MaxPool(window) | AveragePool(window):
            top, left, bottom, right = window.pads
            taps = prod(output[:2]) * prod(window.kernel) * x[2]
            return 8 * (taps + (x[0] + top + bottom) * (x[1] + left + right) * x[2])
        case ConvTranspose(window, size):
            reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
            full = [
                max((x[k] - 1) * window.strides[k] + reach[k], size[k] + window.pads[k]) for k in range(2)
            ]
            return 8 * prod(full) * output[2]
        case ResizeLinear(row_first, _, taps):
            return 8 * len(row_first) * taps * x[1] * x[2] + 8 * prod(output) * taps
        case Dense() | MatMul() | LocalResponseNorm() | Recurrent():
            return op.nest(*inputs).iterations // MULTIPLIES_PER_BYTE
        case _:
            return 0
