# SPDX-License-Identifier: Apache-2.0
"""A state of which nodes read and write pieces becomes a state for each piece.

A decoder's cache for all layers is one tensor in its model: cut into slices, of which each gets a line, and
joined again. As states of their own the slices are updated where they are, and nothing is joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from mmcc.ir.graph import Graph, Node
from mmcc.ir.state import State
from mmcc.ir.types import Shape
from mmcc.ops.movement import Reshape
from mmcc.passes.pieces import joined_of, read_of


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements of a state from `first` on, in its order: the state that they become."""

    begin: str
    end: str
    first: int
    shape: Shape

    @property
    def last(self) -> int:
        """The element behind it."""
        return self.first + prod(self.shape)


def split_states(graph: Graph) -> Graph:
    """The graph with each state as its pieces; `state_pieces` says which."""
    pieces = state_pieces(graph)
    if not pieces:
        return graph
    tensors, nodes = dict(graph.tensors), list(graph.nodes)
    states: list[State] = []
    for state in graph.states:
        mine = pieces.get(state.begin)
        if mine is None:
            states.append(state)
            continue
        for piece in mine:
            tensors[piece.begin] = replace(graph.tensors[state.begin], name=piece.begin, shape=piece.shape)
            initial = state.initial.reshape(-1)[piece.first : piece.last].reshape(piece.shape)
            states.append(State(piece.begin, piece.end, initial))
        at = {piece.first: piece for piece in mine}
        for name, start in read_of(graph, state.begin):
            nodes = _from_piece(graph, nodes, name, at[start])
    return _alive(replace(graph, tensors=tensors, nodes=tuple(nodes), states=tuple(states)))


def state_pieces(graph: Graph) -> dict[str, tuple[Piece, ...]]:
    """The pieces of each state that is joined from several, none of which is the old value of another."""
    found = {state.begin: _pieces(graph, state) for state in graph.states if state.end != state.begin}
    return {name: pieces for name, pieces in found.items() if len(pieces) > 1}


def _pieces(graph: Graph, state: State) -> tuple[Piece, ...]:
    taken, pieces = set(graph.tensors), list[Piece]()
    for k, (end, first) in enumerate(joined_of(graph, state.end, 0)):
        begin = f"{state.begin}.{k}"
        while begin in taken:
            begin += "_"
        taken.add(begin)
        pieces.append(Piece(begin, end, first, graph.tensors[end].shape))
    old = read_of(graph, state.begin)
    ends = {piece.end for piece in pieces}
    own = len(ends) == len(pieces) and all(name in graph.producer for name in ends)
    alike = all(graph.tensors[name].quant == graph.tensors[state.begin].quant for name in ends)
    sound = own and alike and ends.isdisjoint(name for name, _ in old)
    fits = all(_fits(graph, name, start, pieces) for name, start in old)
    return tuple(pieces) if sound and fits else ()


def _fits(graph: Graph, name: str, first: int, pieces: Sequence[Piece]) -> bool:
    """True if a tensor that begins there in an old value is a piece."""
    size = prod(graph.tensors[name].shape)
    return any((piece.first, piece.last) == (first, first + size) for piece in pieces)


def _from_piece(graph: Graph, nodes: list[Node], name: str, piece: Piece) -> list[Node]:
    """The nodes with tensor `name` made of the piece that it is, or being that piece."""
    shape = graph.tensors[name].shape
    if piece.shape == shape and name not in graph.kept:
        return [_renamed(node, {name: piece.begin}) for node in nodes]
    producer = graph.producer[name]
    made = replace(producer, op=Reshape(shape), inputs=(piece.begin,))
    return [made if node.outputs == producer.outputs else node for node in nodes]


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(name, name) for name in node.inputs))


def _alive(graph: Graph) -> Graph:
    """Without nodes that nobody reads, and the tensors of these."""
    needed = set(graph.kept)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if not needed.isdisjoint(node.outputs):
            nodes.append(node)
            needed |= {*node.inputs, *node.outputs}
    used = needed | graph.given | set(graph.constants)
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in used}
    origins = {name: port for name, port in graph.origins.items() if name in used}
    return replace(graph, nodes=tuple(reversed(nodes)), tensors=tensors, origins=origins)
