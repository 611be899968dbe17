# SPDX-License-Identifier: Apache-2.0
"""Put callbacks between the model and its inputs and outputs, for `--io rows`."""

from __future__ import annotations

from dataclasses import replace

from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Tensor
from mmcc.ops.stream import ReadRows, WriteRows


def stream_ports(graph: Graph, *, again: bool = False) -> Graph:
    """Every input goes through a ReadRows, every output through a WriteRows.

    `again` says that inputs can be read more than once. Constants need no callback. States are what the model
    has of them: a new value is what ReadRows brought or WriteRows takes, an old one is handed over as it is.
    """
    tensors = dict(graph.tensors)
    inner: dict[str, str] = {}  # outer name -> name of the tensor inside
    first: list[Node] = []
    last: list[Node] = []
    for index, port in enumerate(graph.inputs):
        inner[port.tensor] = _twin(tensors, port.tensor, "rows")
        first.append(Node(ReadRows(index, again), (port.tensor,), (inner[port.tensor],)))
    outputs = list(graph.outputs)
    begins = {state.begin for state in graph.states}
    for index, port in enumerate(graph.outputs):
        if port.tensor in begins:
            outputs[index] = replace(port, tensor=_twin(tensors, port.tensor, "rows"))
            last.append(Node(WriteRows(index), (port.tensor,), (outputs[index].tensor,)))
        elif not graph.is_constant(port.tensor) and port.tensor not in inner:
            inner[port.tensor] = _twin(tensors, port.tensor, "rows")
            last.append(Node(WriteRows(index), (inner[port.tensor],), (port.tensor,)))
    nodes = tuple(
        replace(
            node,
            inputs=tuple(inner.get(name, name) for name in node.inputs),
            outputs=tuple(inner.get(name, name) for name in node.outputs),
        )
        for node in graph.nodes
    )
    origins = {inner.get(name, name): port for name, port in graph.origins.items()}
    states = tuple(replace(state, end=inner.get(state.end, state.end)) for state in graph.states)
    nodes = (*first, *nodes, *last)
    return replace(
        graph, tensors=tensors, nodes=nodes, outputs=tuple(outputs), states=states, origins=origins
    )


def _twin(tensors: dict[str, Tensor], name: str, suffix: str) -> str:
    twin = f"{name}.{suffix}"
    while twin in tensors:
        twin += "_"
    tensors[twin] = replace(tensors[name], name=twin)
    return twin
