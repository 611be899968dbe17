# SPDX-License-Identifier: Apache-2.0
"""Biases of +0 where they are -0: to add a zero of the padding, or to leave it out, is then the same."""

from __future__ import annotations

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.passes.draft import Draft


def positive_zeros(graph: Graph) -> Graph:
    """Float convolutions begin their sums with +0 where their bias is -0.

    A sum from -0 on stays -0 if all it adds is -0, and becomes +0 with the first zero of another sign. So it
    told whether rows of padding were added, as a stream adds them, or left out.
    """
    draft = Draft(graph)
    for node in graph.nodes:
        bias = graph.constants.get(node.inputs[2]) if isinstance(node.op, Conv | ConvTranspose) else None
        if bias is None or not ((bias == 0) & np.signbit(bias)).any():
            draft.keep(node)
            continue
        named = draft.constant(bias + bias.dtype.type(0), node.inputs[2])
        draft.write(node.op, (*node.inputs[:2], named, *node.inputs[3:]), node.output, node.where)
    return draft.graph()
