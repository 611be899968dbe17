# SPDX-License-Identifier: Apache-2.0
"""An input of which slices get new lines, and are joined again: a chain of updates of the whole.

So the output may lie over the input, as a decoder's cache does, and nothing is copied but the new lines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Shape
from mmcc.ops.indexing import ScatterAlong, ScatterLines
from mmcc.ops.movement import Reshape, Slice
from mmcc.passes.draft import Draft
from mmcc.passes.pieces import joined_of, read_of


@dataclass
class _Chain:
    """An output that is joined of updated slices of an input: where each begins, by the update's result."""

    output: str
    shape: Shape
    first: dict[str, int]
    newest: str


def chain_updates(graph: Graph) -> Graph:
    """The graph with a chain for each pair of an input and an output that allows it."""
    chains: dict[str, _Chain] = {}
    for end in dict.fromkeys(port.tensor for port in graph.outputs):
        chain = _chain(graph, end)
        if chain is not None:
            chains |= dict.fromkeys(chain.first, chain)
    if not chains:
        return graph
    draft = Draft(graph)
    for node in graph.nodes:
        chain = chains.get(node.outputs[0])
        if chain is None:
            draft.keep(node)
        else:
            _updated(draft, node, chain)
    for chain in {chain.output: chain for chain in chains.values()}.values():
        draft.replace(chain.output, _shaped(draft, chain.newest, chain.shape, chain.output))
    return draft.graph()


def _chain(graph: Graph, end: str) -> _Chain | None:
    """The chain that an output is; None where it is something else."""
    parts = list(joined_of(graph, end, 0))
    updates = [graph.producer.get(name) for name, _ in parts]
    first = dict(parts)
    if len(parts) < 2 or len(first) < len(parts) or not all(_is_update(node) for node in updates):
        return None
    size = prod(graph.tensors[end].shape)
    lines = {name: prod(graph.tensors[name].shape[1:]) for name in first}
    if any(start % lines[name] or size % lines[name] for name, start in parts):
        return None
    cut = {node.inputs[0]: start for node, (_, start) in zip(updates, parts, strict=True) if node is not None}
    for name in graph.input_names:
        if dict(read_of(graph, name)) == cut and graph.tensors[name].shape == graph.tensors[end].shape:
            once = all(len(graph.consumers[piece]) == 1 for piece in cut)
            return _Chain(end, graph.tensors[end].shape, first, name) if once else None
    return None


def _is_update(node: Node | None) -> bool:
    return node is not None and isinstance(node.op, ScatterLines | ScatterAlong) and node.op.first == 0


def _updated(draft: Draft, node: Node, chain: _Chain) -> None:
    """The update in the whole, and the slice of it that others read."""
    assert isinstance(node.op, ScatterLines | ScatterAlong)
    shape = draft.tensors[node.output].shape
    line, start = prod(shape[1:]), chain.first[node.output]
    whole = (prod(chain.shape) // line, *shape[1:])
    old = _shaped(draft, chain.newest, whole, node.output)
    op = replace(node.op, first=start // line)
    chain.newest = draft.add(op, (old, *node.inputs[1:]), f"{chain.output}.part", node.where)
    corner = (start // line, *(0 for _ in shape[1:]))
    piece = Slice(corner, tuple(1 for _ in shape), shape)
    draft.write(piece, (chain.newest,), node.output, node.where)


def _shaped(draft: Draft, name: str, shape: Shape, hint: str) -> str:
    if draft.tensors[name].shape == shape:
        return name
    where = draft.producer[name].where if name in draft.producer else ()
    return draft.add(Reshape(shape), (name,), f"{hint}.whole", where)
