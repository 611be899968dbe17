# SPDX-License-Identifier: Apache-2.0
"""Leave the conversion between float and int8 at the model's inputs and outputs to the caller."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.ports import Port
from mmcc.ir.types import Quant, Tensor
from mmcc.ops.quantize import Dequantize, Quantize
from mmcc.passes.draft import Draft


def quantize_ports(graph: Graph) -> Graph:
    """An input read by one Quantize only becomes int8 itself, and so does an output that a Dequantize makes.

    The port's `quant` tells the caller what the integers mean.
    """
    return quantize_outputs(quantize_inputs(graph))


def quantize_inputs(graph: Graph) -> Graph:
    """An input that one Quantize reads takes int8."""
    found = {port.tensor: op for port in graph.inputs if (op := _only_quantize(graph, port)) is not None}
    if not found:
        return graph
    draft = Draft(graph)
    for name, op in found.items():
        shape, quant = graph.tensors[name].shape, Quant(op.scale, op.zero_point)
        draft.tensors[name] = Tensor(name, shape, ElementType.I8, quant)
    for node in graph.nodes:
        if isinstance(node.op, Quantize) and node.inputs[0] in found:
            draft.replace(node.output, node.inputs[0], node.where)
        else:
            draft.keep(node)
    ports = tuple(
        replace(port, quant=draft.tensors[port.tensor].quant) if port.tensor in found else port
        for port in graph.inputs
    )
    return replace(draft.graph(), inputs=ports)


def _only_quantize(graph: Graph, port: Port) -> Quantize | None:
    readers = graph.consumers[port.tensor]
    if len(readers) != 1 or port.tensor in graph.kept or graph.tensors[port.tensor].dtype != ElementType.F32:
        return None
    op = readers[0].op
    return op if isinstance(op, Quantize) and op.dtype == ElementType.I8 else None


def quantize_outputs(graph: Graph) -> Graph:
    """An output that a Dequantize makes gives int8."""
    taken = set(graph.kept)
    ports: list[Port] = []
    for port in graph.outputs:
        node = graph.producer.get(port.tensor)
        if node is not None and isinstance(node.op, Dequantize):
            source = graph.tensors[node.inputs[0]]
            if source.dtype == ElementType.I8 and source.name in graph.producer and source.name not in taken:
                taken.add(source.name)
                quant = Quant(node.op.scale, node.op.zero_point)
                port = replace(port, tensor=source.name, quant=quant)
        ports.append(port)
    draft = Draft(replace(graph, outputs=tuple(ports)))
    for node in graph.nodes:
        draft.keep(node)
    return draft.graph()
