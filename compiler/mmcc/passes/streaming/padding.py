# SPDX-License-Identifier: Apache-2.0
"""What stands for the rows before the first, so that nothing is other than if the kernel left them out.

Integers are sums, so a padded tap that adds nothing may as well be added. A float sum stays as it is, too:
its taps keep their order, and a zero added to it changes no bit unless a weight is no finite number.
"""

from __future__ import annotations

import numpy as np

from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph, Node
from mmcc.ops.conv import Conv, ConvInt8
from mmcc.ops.conv_transpose import ConvTranspose, ConvTransposeInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat, ConvTransposeInt8ToFloat
from mmcc.ops.int16 import ConvInt16
from mmcc.ops.movement import Pad
from mmcc.ops.pool import AveragePool, AveragePoolInt8, MaxPool

Padding = float | int


def padding_of(graph: Graph, node: Node) -> Padding:
    """The value of rows before the first; CompileError MM205 if none is the same as leaving them out."""
    op = node.op
    match op:
        case ConvInt8() | ConvInt8ToFloat() | ConvTransposeInt8() | ConvTransposeInt8ToFloat():
            return op.x_zero
        case ConvInt16():
            return 0
        case Conv() | ConvTranspose():
            if not np.isfinite(graph.constants[node.inputs[1]]).all():
                raise _refused(node, "a weight is no finite number, and would meet a padded row")
            return 0.0
        case AveragePool() | AveragePoolInt8():
            if op.counted[0] < op.window.pads[0]:
                raise _refused(node, "its first means are of fewer rows than those that follow")
            return op.x_zero if isinstance(op, AveragePoolInt8) else 0.0
        case MaxPool():
            return graph.tensors[node.inputs[0]].dtype.least
        case Pad() if op.mode == "constant":
            return op.value
        case _:
            raise _refused(node, "it cannot be given rows before the first")


def _refused(node: Node, why: str) -> CompileError:
    message = f"--stream: {node.op} begins otherwise than it goes on: {why}"
    hint = "count_include_pad=1 for means, or a model without this padding"
    return CompileError("MM205", message, exit=Exit.UNSUPPORTED, at=node.where, hint=hint)
