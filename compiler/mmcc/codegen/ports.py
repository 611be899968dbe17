# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs as the header shows them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import prod

from mmcc.codegen.names import escape
from mmcc.codegen.weights import float_literal
from mmcc.ir.element_type import FloatCode
from mmcc.ir.graph import Graph
from mmcc.ir.module import RUN, Entry, port_symbol
from mmcc.ir.ports import Port
from mmcc.ir.program import EntryCode, ProgramNode
from mmcc.ir.types import geometry
from mmcc.ops.elementwise import Cast
from mmcc.ops.movement import Reshape, Slice, Transpose
from mmcc.ops.stream import ReadRows, WriteRows
from mmcc.ops.suppression import NonMaxSuppression


@dataclass(frozen=True, slots=True)
class PortText:
    """What the header says about one input or output."""

    index: int
    kind: str  # "input" or "output"
    symbol: str  # what C calls it
    of: str  # " of" the entry, where that must be said
    name: str
    ctype: str
    code: FloatCode | None  # of a float that C does not have
    shape: tuple[int, ...]
    order: str  # which axis of the model each axis is
    elements: int
    bytes: int
    memory: str
    offset: int
    external: bool  # the caller gives its address to every run
    streamed: bool  # callbacks bring or take its rows
    argument: bool  # a single number, which the function itself takes or gives
    order_of_calls: str  # what a callback may count on
    rows: int
    columns: int
    pixel: int  # elements of one
    scale: str  # "" where not quantized
    zero_point: int
    shifted: str  # what the scale is multiplied with
    model_shape: tuple[int, ...]
    converts: bool  # the model's own tensor is float, the caller converts
    filled: bool  # rows behind the last box that was found are -1


def port_texts(entry: Entry, code: EntryCode, regions: Collection[str]) -> tuple[PortText, ...]:
    """Inputs, then outputs, each in its memory."""
    graph = entry.graph
    texts: list[PortText] = []
    streamed = _streamed(graph)
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        for index, port in enumerate(ports):
            view = code.ports[port.tensor]
            assert isinstance(view.offset, int)
            text = _port_text(graph, port, index, kind, view.memory, view.offset)
            outside = view.memory not in regions
            stream = port.tensor in streamed
            texts.append(
                replace(
                    text,
                    symbol=port.called or port_symbol(entry.name, kind, index),
                    of="" if entry.name == RUN else f" of {entry.name}",
                    external=outside and not stream,
                    streamed=stream,
                    order_of_calls=_calls_text(graph, code, port),
                )
            )
    return tuple(texts)


def _port_text(graph: Graph, port: Port, index: int, kind: str, memory: str, offset: int) -> PortText:
    tensor = graph.tensors[port.tensor]
    quant = port.quant or tensor.quant
    kept = sorted((axis, k) for k, axis in enumerate(port.axes) if axis is not None)
    return PortText(
        index=index,
        kind=kind,
        symbol="",
        of="",
        name=escape(port.onnx_name),
        ctype=tensor.dtype.ctype,
        code=tensor.dtype.code,
        shape=tensor.shape,
        order=", ".join(str(k) for _, k in kept),
        elements=prod(tensor.shape),
        bytes=tensor.bytes,
        memory=memory,
        offset=offset,
        external=False,
        streamed=False,
        argument=port.argument,
        order_of_calls="",
        rows=geometry(tensor.shape)[0],
        columns=geometry(tensor.shape)[1],
        pixel=geometry(tensor.shape)[2],
        scale=float_literal(float(quant.scale)) if quant else "",
        zero_point=quant.zero_point if quant else 0,
        shifted=shifted(quant.zero_point) if quant else "",
        model_shape=port.onnx_shape,
        converts=port.quant is not None,
        filled=_is_of_boxes(graph, port.tensor),
    )


def _is_of_boxes(graph: Graph, name: str) -> bool:
    """Whether a tensor has what NonMaxSuppression gives, moved or in another type."""
    node = graph.producer.get(name)
    while node is not None and isinstance(node.op, (Reshape, Slice, Transpose, Cast)):
        node = graph.producer.get(node.inputs[0])
    return node is not None and isinstance(node.op, NonMaxSuppression)


def shifted(zero_point: int) -> str:
    """A quantized value less its zero point, for people."""
    if zero_point == 0:
        return "value"
    return f"(value {'-' if zero_point > 0 else '+'} {abs(zero_point)})"


def _calls_text(graph: Graph, code: EntryCode, port: Port) -> str:
    """What a callback may count on: how often rows come, and that some come one pixel a call."""
    for node in code.nodes:
        op, names = graph.nodes[node.index].op, graph.nodes[node.index]
        if isinstance(op, ReadRows) and names.inputs[0] == port.tensor:
            order = "Rows may be asked for more than once." if op.again else "All comes once, in order."
        elif isinstance(op, WriteRows) and names.output == port.tensor:
            order = ""
        else:
            continue
        single = "One pixel a call: in memory, other channels lie between." if _by_pixels(node) else ""
        return " ".join(filter(None, (order, single)))
    return ""


def _by_pixels(node: ProgramNode) -> bool:
    return dict(node.use.options)["window"] == "pixel"


def _streamed(graph: Graph) -> frozenset[str]:
    """Inputs and outputs that callbacks bring and take."""
    read = {node.inputs[0] for node in graph.nodes if isinstance(node.op, ReadRows)}
    return frozenset(read | {node.output for node in graph.nodes if isinstance(node.op, WriteRows)})
