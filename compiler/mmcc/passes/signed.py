# SPDX-License-Identifier: Apache-2.0
"""Compute in int8 only: a uint8 tensor becomes int8 with its zero point moved by 128."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Quant
from mmcc.ops.elementwise import Binary, Cast, Unary, Where
from mmcc.ops.elementwise_int8 import EVERY, Lookup
from mmcc.ops.movement import Pad
from mmcc.ops.quantize import Dequantize, DequantizeConstant, FlipSign, Quantize
from mmcc.ops.reduce import ArgMax
from mmcc.passes.draft import Draft
from mmcc.passes.move_quantize import moved_operands

THEMSELVES = Quant(1.0, -128)  # what uint8 means less 128, as long as no Dequantize says another thing


def make_signed(graph: Graph) -> Graph:
    """Give every uint8 tensor an int8 twin and let all that can read the twin do so.

    A FlipSign at the border of the model converts; the uint8 tensor is dropped where nobody needs it.
    A cast of such integers to float is a dequantization with scale 1. A function of one such tensor that
    gives the same type (Clip, Relu, Min or Max with a constant) is a table.
    """
    draft = Draft(graph)
    twins: dict[str, str] = {}
    for port in graph.inputs:
        if graph.tensors[port.tensor].dtype == ElementType.U8:
            name = f"{port.tensor}_signed"
            twins[port.tensor] = draft.add(FlipSign(), (port.tensor,), name, (), THEMSELVES)
            draft.stands_for(twins[port.tensor], port.tensor)
    for name, data in graph.constants.items():
        if data.dtype == np.uint8:
            twins[name] = draft.constant(flipped(data), f"{name}_signed")
    for node in graph.nodes:
        _convert(draft, twins, node)
    return draft.graph()


def flipped(data: NDArray[Any]) -> NDArray[Any]:
    """A uint8 array less 128, as int8."""
    return (data.astype(np.int16) - 128).astype(np.int8)


def _convert(draft: Draft, twins: dict[str, str], node: Node) -> None:
    unsigned = tuple(name for name in node.inputs if name in twins)
    inputs = tuple(twins.get(name, name) for name in node.inputs)
    moved = moved_operands(node)
    match node.op:
        case Quantize(scale, zero, ElementType.U8):
            op = Quantize(scale, zero - 128, ElementType.I8)
            _write_twin(draft, twins, node, op, node.inputs, Quant(scale, zero - 128))
        case Dequantize(scale, zero) if unsigned:
            draft.write(Dequantize(scale, zero - 128), inputs, node.output, node.where)
        case DequantizeConstant(scales, zeros, axis) if unsigned:
            op = DequantizeConstant(scales, tuple(zero - 128 for zero in zeros), axis)
            draft.write(op, inputs, node.output, node.where)
        case Cast(ElementType.F32) if (
            unsigned or draft.tensors[draft.now(node.inputs[0])].dtype == ElementType.I8
        ):
            draft.write(Dequantize(1.0, -128 if unsigned else 0), inputs, node.output, node.where)
        case Unary() | Binary() | Where() if (source := _only_source(draft, node)) is not None:
            _write_table(draft, twins, node, source)
        case ArgMax() if unsigned:
            draft.write(node.op, inputs, node.output, node.where)
        case _ if moved and all(node.inputs[k] in twins for k in moved):
            op = replace(node.op, value=node.op.value - 128) if isinstance(node.op, Pad) else node.op
            quant = draft.tensors[inputs[0]].quant or THEMSELVES  # constants of integers say nothing of them
            _write_twin(draft, twins, node, op, inputs, quant)
        case _:
            draft.keep(node)


def _only_source(draft: Draft, node: Node) -> str | None:
    """The 8-bit tensor that alone decides a node's result, element by element, if both have one type."""
    y = draft.tensors[node.output]
    sources = {name for name in node.inputs if not draft.is_constant(name)}
    numbers = [draft.constants[draft.now(name)] for name in node.inputs if draft.is_constant(name)]
    if len(sources) != 1 or any(number.size != 1 for number in numbers):
        return None
    source = sources.pop()
    x = draft.tensors[draft.now(source)]
    return (
        source
        if x.dtype in (ElementType.I8, ElementType.U8) and (x.dtype, x.shape) == (y.dtype, y.shape)
        else None
    )


def _write_table(draft: Draft, twins: dict[str, str], node: Node, source: str) -> None:
    unsigned = draft.tensors[draft.now(source)].dtype == ElementType.U8
    every = (EVERY.astype(np.int16) + 128).astype(np.uint8) if unsigned else EVERY
    given = [
        every if name == source else draft.constants[draft.now(name)].reshape(()) for name in node.inputs
    ]
    values = np.broadcast_to(node.op.reference(*given)[0], (256,))
    table = draft.constant(flipped(values) if unsigned else values, f"{node.output}_table")
    if unsigned and source not in twins:  # made by a node that has no int8 form, as a Cast
        twins[source] = draft.add(FlipSign(), (source,), f"{source}_signed", node.where, THEMSELVES)
        draft.stands_for(twins[source], source)
    x = twins.get(source, source)
    own = Quant(1.0, -128) if unsigned else draft.tensors[node.output].quant  # of integers of the caller's
    quant = draft.tensors[draft.now(x)].quant or own
    if unsigned:
        _write_twin(draft, twins, node, Lookup(), (x, table), quant)
    else:
        draft.write(Lookup(), (x, table), node.output, node.where, quant)


def _write_twin(
    draft: Draft, twins: dict[str, str], node: Node, op: Any, inputs: tuple[str, ...], quant: Quant | None
) -> None:
    twin = draft.add(op, inputs, f"{node.output}_signed", node.where, quant)
    twins[node.output] = twin
    draft.stands_for(twin, node.output)
    draft.write(FlipSign(), (twin,), node.output, node.where)
