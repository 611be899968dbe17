# SPDX-License-Identifier: Apache-2.0
"""What the integers of int8 tensors mean, where the nodes next to them do not say it.

A pass reads it off the Quantize that writes a tensor or the Dequantize that reads it. Here it is carried on
across operators that only move elements; integers that a model never converts mean just themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Node
from mmcc.ir.types import Quant, Tensor
from mmcc.ops.quantize import Dequantize, Quantize

THEMSELVES = Quant(1.0, 0)


def meanings(inputs: Sequence[str], nodes: Sequence[Node], tensors: Mapping[str, Tensor]) -> dict[str, Quant]:
    """Scale and zero point of all int8 inputs and of all int8 tensors that nodes write, nodes in order."""
    found: dict[str, Quant] = {}
    for node in nodes:
        if isinstance(node.op, Quantize):
            found[node.output] = Quant(node.op.scale, node.op.zero_point)
        elif isinstance(node.op, Dequantize):
            found.setdefault(node.inputs[0], Quant(node.op.scale, node.op.zero_point))
    for node in reversed(nodes):
        if node.op.traits.moves and node.outputs[0] in found:
            for name in node.inputs:
                found.setdefault(name, found[node.outputs[0]])
    for node in nodes:
        if node.op.traits.moves and node.inputs[0] in found:
            found.setdefault(node.outputs[0], found[node.inputs[0]])
    activations = [*inputs, *(name for node in nodes for name in node.outputs)]
    return {
        name: found.get(name, THEMSELVES) for name in activations if tensors[name].dtype == ElementType.I8
    }
