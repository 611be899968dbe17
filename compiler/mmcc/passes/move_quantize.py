# SPDX-License-Identifier: Apache-2.0
"""Bring Dequantize and Quantize together across ops that move or clamp elements, so that they cancel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.op import Op
from mmcc.ir.types import Quant, Shape
from mmcc.ops.elementwise import Unary
from mmcc.ops.elementwise_int8 import EVERY, Lookup
from mmcc.ops.movement import Pad
from mmcc.ops.pool import MaxPool, window_counts
from mmcc.ops.quantize import Dequantize, DequantizeConstant, Quantize
from mmcc.passes.draft import Draft


def moved_operands(node: Node) -> tuple[int, ...]:
    """The operands whose elements the result has, and no others; none of a node that does not only move.

    They are found by place, by order, or as another operand says. Scaling is increasing, so a maximum is
    found at the same place before and after. A choice element by element may be part of a function of one
    value, which is a table as long as all of it is float; of two values it has a form of its own.
    """
    traits = node.op.traits
    picks = traits.chooser is not None and not traits.elementwise
    if len(node.outputs) > 1 or not (picks or traits.moves is not None):
        return ()
    return tuple(k for k in range(len(node.inputs)) if k != traits.chooser)


def quantized_move(op: Op, quant: Quant, x: Shape) -> Op | None:
    """The op on integers that means the same to a reader who dequantizes; None if there is none.

    A window that lies in the padding of a MaxPool gives the least float, which no integer stands for.
    """
    match op:
        case Pad(mode="constant"):
            value = np.array(op.value, np.float32)
            (stored,) = Quantize(quant.scale, quant.zero_point).reference(value)
            (back,) = Dequantize(quant.scale, quant.zero_point).reference(stored)
            return replace(op, value=float(stored)) if back == value else None
        case MaxPool(window):
            return op if window_counts(window, (0, 0, 0, 0), x).min() else None
        case _:
            return op


def sink_dequantize(graph: Graph) -> Graph:
    """Dequantize after moving rather than before: a quarter of the bytes to move."""
    draft = Draft(graph)
    for node in graph.nodes:
        moved = moved_operands(node)
        sources = [_dequantized(draft, node.inputs[k]) for k in moved or range(len(node.inputs))]
        known = [source for source in sources if source is not None]
        quants = {quant for _, quant in known}
        quant = quants.pop() if len(quants) == 1 and len(known) == len(sources) else None
        if quant is not None and _write_clamp(draft, node, known[0][0], quant):
            continue
        op = None
        if quant is not None and moved:
            op = quantized_move(node.op, quant, graph.tensors[node.inputs[0]].shape)
        if op is None or quant is None:
            draft.keep(node)
            continue
        names = dict(zip(moved, (name for name, _ in known), strict=True))
        operands = [names.get(k, name) for k, name in enumerate(node.inputs)]
        integers = draft.add(op, operands, f"{node.output}_q", node.where, quant)
        draft.stands_for(integers, node.output)
        draft.write(Dequantize(quant.scale, quant.zero_point), (integers,), node.output, node.where)
    return draft.graph()


def _write_clamp(draft: Draft, node: Node, source: str, quant: Quant) -> bool:
    """Clamp integers before Dequantize, where the bounds are floats that integers stand for.

    A Quantize that follows needs no such bounds: what is between is a table then.
    """
    if not (isinstance(node.op, Unary) and node.op.function == "clamp") or draft.is_constant(source):
        return False
    if draft.tensors[source].dtype != ElementType.I8:
        return False
    meaning = Dequantize(quant.scale, quant.zero_point)
    (values,) = node.op.reference(*meaning.reference(EVERY))
    (table,) = Quantize(quant.scale, quant.zero_point).reference(values)
    if not np.array_equal(meaning.reference(table)[0], values):
        return False
    name = draft.constant(table, f"{node.output}_table")
    clamped = draft.add(Lookup(), (source, name), f"{node.output}_q", node.where, quant)
    draft.stands_for(clamped, node.output)
    draft.write(meaning, (clamped,), node.output, node.where)
    return True


def _dequantized(draft: Draft, name: str) -> tuple[str, Quant] | None:
    """The tensor of int8, or of int16 with zero point 0, that a float tensor is made of, if it is."""
    node = draft.producer.get(draft.now(name))
    dtype = draft.tensors[node.inputs[0]].dtype if node is not None else None
    if node is None or dtype not in (ElementType.I8, ElementType.I16):
        return None
    match node.op:
        case Dequantize(scale, zero) if dtype == ElementType.I16:
            return (node.inputs[0], Quant(scale, zero)) if zero == 0 else None
        case _ if dtype == ElementType.I16:
            return None
        case Dequantize(scale, zero):
            return node.inputs[0], Quant(scale, zero)
        case DequantizeConstant((scale,), (zero,)):
            return node.inputs[0], Quant(scale, zero)
        case _:
            return None


def raise_quantize(graph: Graph) -> Graph:
    """Quantize before moving rather than after, where nobody needs the moved floats."""
    wanted = _wanted(graph)
    draft = Draft(graph)
    stored: dict[tuple[str, Quantize], str] = {}
    for node in graph.nodes:
        moved = moved_operands(node)
        quantize = wanted.get(node.output) if moved else None
        if quantize is not None:
            names = [
                _quantized(draft, stored, name, quantize, node) if k in moved else name
                for k, name in enumerate(node.inputs)
            ]
            quant = Quant(quantize.scale, quantize.zero_point)
            op = node.op
            if isinstance(op, Pad):
                op = replace(op, value=float(quantize.reference(np.array(op.value, np.float32))[0]))
            integers = draft.add(op, names, f"{node.output}_q", node.where, quant)
            draft.stands_for(integers, node.output)
            stored[node.output, quantize] = integers
        elif isinstance(node.op, Quantize) and (node.inputs[0], node.op) in stored:
            draft.replace(node.output, stored[node.inputs[0], node.op], node.where)
        else:
            draft.keep(node)
            if isinstance(node.op, Quantize):
                stored[node.inputs[0], node.op] = node.output
    return draft.graph()


def _wanted(graph: Graph) -> dict[str, Quantize]:
    """The tensors that are needed in one quantized form only, and which."""
    wanted: dict[str, Quantize] = {}
    for node in reversed(graph.nodes):
        if len(node.outputs) > 1:
            continue
        forms: set[Quantize | None] = set()
        for reader in graph.consumers[node.output]:
            if isinstance(reader.op, Quantize):
                forms.add(reader.op)
            else:
                moved = (reader.inputs[k] for k in moved_operands(reader))
                forms.add(wanted.get(reader.output) if node.output in moved else None)
        form = forms.pop() if len(forms) == 1 and node.output not in graph.kept else None
        symmetric = form is not None and form.dtype == ElementType.I16 and form.zero_point == 0
        if form is not None and (form.dtype == ElementType.I8 or symmetric):
            wanted[node.output] = form
    return wanted


def _quantized(
    draft: Draft, stored: dict[tuple[str, Quantize], str], name: str, quantize: Quantize, node: Node
) -> str:
    """The quantized form of a tensor, made here if it is not there yet."""
    key = (name, quantize)
    if key not in stored:
        quant = Quant(quantize.scale, quantize.zero_point)
        stored[key] = draft.add(quantize, (name,), f"{name}_q", node.where, quant)
        draft.stands_for(stored[key], name)
    return stored[key]
