# SPDX-License-Identifier: Apache-2.0
"""Bytes that kernels work in. Where rows come in an order, they hold what a row hands on to the next."""

from __future__ import annotations

from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ops.recurrent import Recurrent


def scratch_bytes(graph: Graph, node: Node) -> int:
    """Bytes of scratch that the node's kernel needs, on any target."""
    if isinstance(node.op, Recurrent):
        return 4 * vectors(node.op) * prod(graph.tensors[node.outputs[0]].shape[1:])
    return 0


def vectors(op: Recurrent) -> int:
    """Vectors of units that the kernel of a cell keeps: h; c; h as the reset gate of a GRU leaves it."""
    if op.cell == "gru":
        return 1 if "bias" in op.operands else 2
    return 2 if op.cell == "lstm" else 1
