# SPDX-License-Identifier: Apache-2.0
"""What the operands of an op are in integers, what its integer form must give, and why there may be none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Quant
from mmcc.ops.activation import Clamp
from mmcc.ops.quantize import Dequantize, DequantizeConstant
from mmcc.passes.draft import Draft
from mmcc.passes.fuse_activation import as_activation

INT32 = 2**31 - 1  # what a sum must not be above

Form = tuple[Op, tuple[str, ...]]


class StaysFloat(Exception):
    """Why an op has no integer form here, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Source:
    """An int8 tensor, and what its integers mean."""

    name: str
    quant: Quant


@dataclass(frozen=True, slots=True)
class Target:
    """What the integer form must give: quantization and bounds of its output."""

    quant: Quant
    low: int = -128
    high: int = 127


def source_of(draft: Draft, name: str) -> Source:
    """The int8 tensor or constant behind a float tensor."""
    node = draft.producer.get(draft.now(name))
    if node is None or not isinstance(node.op, (Dequantize, DequantizeConstant)):
        raise StaysFloat(f"%{name} is not quantized")
    dtype = draft.tensors[node.inputs[0]].dtype
    if isinstance(node.op, Dequantize):
        if dtype != ElementType.I8:
            raise StaysFloat(f"%{name} is quantized to {dtype.ctype}, and only int8 has integer kernels")
        return Source(node.inputs[0], Quant(node.op.scale, node.op.zero_point))
    if len(node.op.scales) != 1 or len(node.op.zero_points) != 1 or dtype != ElementType.I8:
        raise StaysFloat(f"the constant %{name} is not quantized to int8 with one scale")
    check_finite(draft, node)
    return Source(node.inputs[0], Quant(node.op.scales[0], node.op.zero_points[0]))


def source_of_16(draft: Draft, name: str) -> Source:
    """The int16 tensor behind a float one, with a zero point of 0."""
    node = draft.producer.get(draft.now(name))
    if node is None or not isinstance(node.op, Dequantize) or node.op.zero_point:
        raise StaysFloat(f"%{name} is not quantized to int16 with zero point 0")
    if draft.tensors[node.inputs[0]].dtype != ElementType.I16:
        raise StaysFloat(f"%{name} is quantized to another type than the result")
    return Source(node.inputs[0], Quant(node.op.scale, 0))


def check_finite(draft: Draft, node: Node) -> None:
    """StaysFloat if a quantized constant has elements that are infinite as float32, as masks may have."""
    with np.errstate(over="ignore"):
        (values,) = node.op.reference(draft.constants[node.inputs[0]])
    if not np.isfinite(values).all():
        raise StaysFloat(f"the constant %{node.output} is beyond what float32 has")


def real(scale: float) -> float:
    """A scale as the float32 it is in the model."""
    return float(np.float32(scale))


def computed_by(graph: Graph, name: str) -> tuple[Node | None, list[Node]]:
    """The node that makes a tensor, not counting clamps after it, and those clamps, first one first."""
    clamps: list[Node] = []
    node = graph.producer.get(name)
    while node is not None and isinstance(as_activation(node), Clamp):
        clamps.insert(0, node)
        node = graph.producer.get(node.inputs[0])
    return node, clamps
