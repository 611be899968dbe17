# SPDX-License-Identifier: Apache-2.0
"""What is read row by row is made apart from what is read as a whole.

In a block of attention keys and values must be there whole before the first row of queries is used. A layer
that makes all three in one makes queries then, too, which have to wait. Here it becomes a layer for each, and
every channel is the sum that it was. What they are made of, a norm, would have to wait for its queries still:
computed once more, row by row, it need not, since what it is made of is there anyway, for the sum behind the
block. So the graph multiplies as often as before, but some norms and elementwise operators are there twice.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.channels import channel_axes
from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.traits import Moves
from mmcc.ops.movement import Pad, Reshape
from mmcc.passes.draft import Draft

MOST_ELEMENTS = 1 << 22  # of a layer's result of which parts are read: their places are looked at one by one

ONCE, AGAIN = "once", "again"  # may anything be computed twice?

Channels = NDArray[np.int64]


def read_apart(graph: Graph, apart: str) -> Graph | None:
    """The graph with such layers in parts, and with AGAIN what makes no products twice; None if there is
    nothing of it."""
    found = _in_parts(graph)
    found = _made_again(found) if apart == AGAIN else found
    return None if found is graph else found


def _moves(node: Node) -> bool:
    return node.op.traits.moves is Moves.BY_PLACE and len(node.inputs) == 1 and not isinstance(node.op, Pad)


def _ends(graph: Graph, name: str) -> list[tuple[str, list[Node]]]:
    """What a tensor is moved to, with the nodes that move it there: that is read by something else."""
    found: list[tuple[str, list[Node]]] = []
    readers = graph.consumers[name]
    moving = [node for node in readers if _moves(node)]
    if len(moving) < len(readers) or name in graph.kept or not readers:
        found.append((name, []))
    for node in moving:
        found += [(end, [node, *path]) for end, path in _ends(graph, node.output)]
    return found


def _in_parts(graph: Graph) -> Graph:
    """The graph with layers of which readers take some channels each as a layer for each of these."""
    parts: dict[str, list[tuple[str, Channels]]] = {}  # by a layer's result: what is read of it
    dropped: set[str] = set()
    for node in graph.nodes:
        taken = _taken(graph, node)
        if taken is not None:
            parts[node.output] = taken
            for _, path in _ends(graph, node.output):
                dropped.update(each.output for each in path)
    if not parts:
        return graph
    draft = Draft(graph)
    for node in graph.nodes:
        if node.output in parts:
            for name, channels in parts[node.output]:
                made = _part(graph, draft, node, channels)
                quant = graph.tensors[name].quant
                draft.write(Reshape(graph.tensors[name].shape), (made,), name, node.where, quant)
        elif node.output not in dropped:
            draft.keep(node)
    return draft.graph()


def _taken(graph: Graph, node: Node) -> list[tuple[str, Channels]] | None:
    """The parts of a layer's result that are read, by the channels in each; None if it has no such parts."""
    if len(node.outputs) != 1 or node.handoff is not None or _moves(node):
        return None
    shape = graph.tensors[node.output].shape
    ends = _ends(graph, node.output)
    if len(ends) < 2 or len(shape) != 2 or prod(shape) > MOST_ELEMENTS or any(not path for _, path in ends):
        return None
    whole = [_is_needed_whole(graph, name) for name, _ in ends]
    if all(whole) or not any(whole) or channel_axes(graph, node) is None:
        return None
    rows, width = shape
    places = np.arange(prod(shape)).reshape(shape)
    parts: list[tuple[str, Channels]] = []
    for name, path in ends:
        taken = places
        for each in path:
            (taken,) = each.op.reference(taken)
        if taken.size % rows or taken.size == places.size:
            return None
        lines = taken.reshape(rows, -1)
        if not np.array_equal(lines, lines[0] + width * np.arange(rows)[:, None]) or lines[0].max() >= width:
            return None
        parts.append((name, lines[0]))
    every = np.sort(np.concatenate([channels for _, channels in parts]))
    return parts if np.array_equal(every, np.arange(width)) else None  # none is made twice, or not at all


def _part(graph: Graph, draft: Draft, node: Node, channels: Channels) -> str:
    """Some channels of a layer."""
    axes = channel_axes(graph, node) or {}
    inputs = [
        draft.constant(graph.constants[name].take(channels, axis=axes[k]), name) if k in axes else name
        for k, name in enumerate(node.inputs)
    ]
    return draft.add(node.op, inputs, node.output, node.where, graph.tensors[node.output].quant)


def _made_again(graph: Graph) -> Graph:
    """The graph with what is cheap, and read by rows and as a whole, made for either."""
    twice = {node.output: whole for node in graph.nodes if (whole := _needed_whole(graph, node))}
    if not twice:
        return graph
    draft = Draft(graph)
    own: dict[int, dict[str, str]] = {}  # by node: what it reads instead
    for node in graph.nodes:
        instead = own.get(id(node), {})
        if instead:
            inputs = tuple(instead.get(name, name) for name in node.inputs)
            draft.write(node.op, inputs, node.output, node.where, graph.tensors[node.output].quant)
        else:
            draft.keep(node)
        if node.output in twice:
            again = draft.add(node.op, node.inputs, node.output, node.where, graph.tensors[node.output].quant)
            for reader in twice[node.output]:
                own.setdefault(id(reader), {})[node.output] = again
    return draft.graph()


def _needed_whole(graph: Graph, node: Node) -> list[Node]:
    """Layers that read a cheap node's result and are needed whole before others that read it, whose first
    row is enough to go on; none if there are not both."""
    if len(node.outputs) != 1 or node.handoff is not None or node.output in graph.kept or _moves(node):
        return []
    nest, readers = nest_of(graph, node), graph.consumers[node.output]
    source = [name for name in node.inputs if not graph.is_constant(name)]
    cheap = not nest.multiplies and nest.row_order is None and len(source) == 1
    if not cheap or len(readers) < 2 or len(graph.consumers[source[0]]) < 2:
        return []  # else its source would have to wait instead
    if any(len(reader.outputs) != 1 or reader.handoff is not None for reader in readers):
        return []
    whole = [reader for reader in readers if _is_needed_whole(graph, reader.output)]
    by_rows = [reader for reader in readers if reader not in whole]
    return whole if whole and by_rows and all(_by_rows(graph, r, node.output) for r in readers) else []


def _by_rows(graph: Graph, node: Node, name: str) -> bool:
    """Whether a node reads a row of a tensor for a row of its own."""
    nest = nest_of(graph, node)
    reads = [k for k, access in enumerate(nest.reads) if node.inputs[access.operand] == name]
    rows = graph.tensors[name].shape[0] if graph.tensors[name].shape else 1
    return rows > 1 and all(len(nest.rows_needed(k, 0)) < rows for k in reads)


def _is_needed_whole(graph: Graph, name: str) -> bool:
    """Whether something needs all of a tensor for one of its rows."""
    ends = [end for end, _ in _ends(graph, name)]
    readers = [(end, reader) for end in ends for reader in graph.consumers[end] if not _moves(reader)]
    return bool(readers) and all(not _by_rows(graph, reader, end) for end, reader in readers)
