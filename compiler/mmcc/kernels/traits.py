# SPDX-License-Identifier: Apache-2.0
"""What kernels promise the planner beyond the loops of their ops; every variant of a kernel keeps these."""

from __future__ import annotations

from mmcc.ir.graph import Graph
from mmcc.ops.conv import ConvInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat

PIXELS = 8  # output pixels that an int8 convolution makes at once, at most


def pixels_at_once(graph: Graph) -> dict[int, int]:
    """By node: it makes so many pixels at a time, left to right, and reads just their windows for them.

    A kernel that goes over a row several times (groups, blocks of channels outside the loop over pixels) is
    none of these.
    """
    return {
        index: PIXELS
        for index, node in enumerate(graph.nodes)
        if isinstance(node.op, (ConvInt8, ConvInt8ToFloat)) and node.op.groups == 1
    }
