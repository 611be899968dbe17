# SPDX-License-Identifier: Apache-2.0
"""Which tensors share bytes: reshapes, slices and concatenations as views of one buffer.

Every tensor has at most one parent in whose bytes it lies; what has none gives its name to an allocation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.nest import Access, Affine
from mmcc.ir.plan import Slot
from mmcc.ir.storage import Storage
from mmcc.ir.traits import Alias
from mmcc.ir.types import Shape, Tensor, geometry

Operand = tuple[int, int]  # node, operand: an input that a movement op could leave where it is


@dataclass(frozen=True, slots=True)
class View:
    """Where a tensor lies in an allocation: offset and one stride an axis, in bytes."""

    allocation: str
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """`child` may lie in the bytes of `parent`, so that operand `operand` of `node` needs no code."""

    child: str
    parent: str
    node: int
    operand: int
    view: Callable[[View], View | None]  # of the child, from that of the parent


@dataclass(frozen=True, slots=True)
class Layout:
    """A choice of views. `copied` has an entry for each Concat that needs code."""

    views: dict[str, View]
    aliases: frozenset[int]
    copied: dict[int, tuple[int, ...]]
    in_place: frozenset[Operand]


def make_layout(graph: Graph, external: frozenset[str], copied: frozenset[Operand]) -> Layout:
    """Share as much as strides can express, but for the operands in `copied`.

    Tensors in `external` have a buffer of the caller's: each is an allocation. Concatenations choose
    first. Nothing lies in a state's new value, since the old one is there until that is written; and what is
    promised to be dense is no part of another tensor.
    """
    parents: dict[str, Edge] = {}
    rigid = _rigid(graph)
    closed = {state.end for state in graph.states if state.end != state.begin}
    for choice in (_join_edges, _same_edges, _part_edges):
        for edges in choice(graph):
            for edge in edges:
                free = edge.child not in parents and edge.child not in external and edge.parent not in closed
                free = free and not (choice is not _same_edges and edge.child in rigid)
                if free and (edge.node, edge.operand) not in copied and not _below(edge, parents):
                    parents[edge.child] = edge
                    break
    views = _views(graph, parents)
    in_place = frozenset((edge.node, edge.operand) for edge in parents.values())
    aliases: set[int] = set()
    left: dict[int, tuple[int, ...]] = {}
    for index, node in enumerate(graph.nodes):
        if node.op.traits.alias is not None:
            code = tuple(k for k in range(len(node.inputs)) if (index, k) not in in_place)
            if not code:
                aliases.add(index)
            elif node.op.traits.alias is Alias.JOIN:
                left[index] = code
    return Layout(views, frozenset(aliases), left, in_place)


def _rigid(graph: Graph) -> frozenset[str]:
    """Tensors that lie dense and aligned: what a user's function or a loop gets whole, and others of its
    bytes."""
    found = {
        name
        for node in graph.nodes
        if node.op.traits.at_once or (node.handoff is not None and node.handoff.whole)
        for name in (*graph.activations(node), *node.outputs)
    }
    same = [node for node in graph.nodes if node.op.traits.alias is Alias.SAME]
    while True:
        more = {
            name
            for node in same
            for name in (node.inputs[0], node.output)
            if not found.isdisjoint((node.inputs[0], node.output))
        }
        if more <= found:
            return frozenset(found)
        found |= more


def slot_of(view: View, tensor: Tensor) -> Slot | None:
    """The view as rows and columns of contiguous channels; None if it is not of that form."""
    rows, cols, channels = geometry(tensor.shape)
    shape, size = tensor.shape, tensor.dtype.size
    folded = max(0, min(2, len(shape) - 1))  # axes before this one are rows and columns
    width = size
    for extent, stride in zip(reversed(shape[folded:]), reversed(view.strides[folded:]), strict=True):
        if extent > 1 and stride != width:
            return None
        width *= extent
    col = view.strides[1] if cols > 1 else channels * size
    row = view.strides[0] if rows > 1 else cols * col
    if (rows > 1 and row <= 0) or (cols > 1 and col <= 0):
        return None
    return Slot(view.allocation, view.offset, row, col, rows)


def dense(shape: Shape, size: int) -> tuple[int, ...]:
    """Strides of a tensor that has a buffer to itself."""
    return tuple(size * prod(shape[axis + 1 :]) for axis in range(len(shape)))


def reshape_strides(shape: Shape, strides: tuple[int, ...], to: Shape, size: int) -> tuple[int, ...] | None:
    """Strides of a reshaped view, or None where the elements are not evenly spaced in memory."""
    runs: list[list[int]] = []  # extent, stride of the innermost; merged while contiguous
    for extent, stride in zip(shape, strides, strict=True):
        if extent == 1:
            continue
        if runs and runs[-1][1] == extent * stride:
            runs[-1] = [runs[-1][0] * extent, stride]
        else:
            runs.append([extent, stride])
    result: list[int] = []
    left, stride = 1, size
    for extent in reversed(to):
        if extent == 1:
            result.append(stride)
            continue
        if left == 1:
            left, stride = runs.pop()
        if left % extent:
            return None
        result.append(stride)
        left, stride = left // extent, stride * extent
    return tuple(reversed(result))


def _below(edge: Edge, parents: dict[str, Edge]) -> bool:
    """True if the parent already lies in the child: the edge would close a circle."""
    name: str | None = edge.parent
    while name is not None:
        if name == edge.child:
            return True
        name = parents[name].parent if name in parents else None
    return False


def _join_edges(graph: Graph) -> Iterator[tuple[Edge, ...]]:
    for index, node in enumerate(graph.nodes):
        if node.op.traits.alias is not Alias.JOIN:
            continue
        for read in nest_of(graph, node).reads:
            name = node.inputs[read.operand]
            if not graph.is_constant(name):
                yield (Edge(name, node.output, index, read.operand, _joined(read)),)


def _joined(read: Access) -> Callable[[View], View | None]:
    """Where a part lies in the whole: each index is the whole's counter, less where the part begins."""

    def view(whole: View) -> View | None:
        offset = whole.offset
        for index, stride in zip(read.index, whole.strides, strict=True):
            if not isinstance(index, Affine) or (index - index.offset).loop is None:
                return None
            offset -= index.offset * stride
        return View(whole.allocation, offset, whole.strides)

    return view


def may_join_in_place(graph: Graph, node: Node) -> bool:
    """False if a Concat has code for all of its operands in every layout.

    An operand may lie in the whole only if its pixels are contiguous there. Pixels of the whole are
    themselves, in whatever it lies: so it is the same in all layouts, and asked here of one.
    """
    whole = View(
        node.output, 0, dense(graph.tensors[node.output].shape, graph.tensors[node.output].dtype.size)
    )
    for read in nest_of(graph, node).reads:
        name = node.inputs[read.operand]
        view = None if graph.is_constant(name) else _joined(read)(whole)
        if view is not None and slot_of(view, graph.tensors[name]) is not None:
            return True
    return False


def _same_edges(graph: Graph) -> Iterator[tuple[Edge, ...]]:
    for index, node in reversed(
        list(enumerate(graph.nodes))
    ):  # outputs that lie in a Concat take inputs along
        if node.op.traits.alias is Alias.SAME and not graph.is_constant(node.inputs[0]):
            source, target = graph.tensors[node.inputs[0]], graph.tensors[node.output]
            yield (
                Edge(target.name, source.name, index, 0, _reshaped(source, target)),
                Edge(source.name, target.name, index, 0, _reshaped(target, source)),
            )


def _reshaped(parent: Tensor, child: Tensor) -> Callable[[View], View | None]:
    def view(whole: View) -> View | None:
        strides = reshape_strides(parent.shape, whole.strides, child.shape, parent.dtype.size)
        return None if strides is None else View(whole.allocation, whole.offset, strides)

    return view


def _part_edges(graph: Graph) -> Iterator[tuple[Edge, ...]]:
    for index, node in enumerate(graph.nodes):
        if node.op.traits.alias is Alias.PART and not graph.is_constant(node.inputs[0]):
            yield (Edge(node.output, node.inputs[0], index, 0, _walked(graph, node)),)


def _walked(graph: Graph, node: Node) -> Callable[[View], View | None]:
    """The view that the nest's access function describes, if it is affine."""
    nest = nest_of(graph, node)
    names = [loop.name for loop in nest.loops]

    def view(whole: View) -> View | None:
        strides, offset = dict.fromkeys(names, 0), whole.offset
        for index, stride in zip(nest.reads[0].index, whole.strides, strict=True):
            if not isinstance(index, Affine) or index.divisor != 1:
                return None
            offset += index.offset * stride
            for loop, factor in index.terms:
                strides[loop] += factor * stride
        return View(whole.allocation, offset, tuple(strides[name] for name in names))

    return view


def _views(graph: Graph, parents: dict[str, Edge]) -> dict[str, View]:
    """Views, from parents to children; drops from `parents` what no slot can express."""
    views: dict[str, View] = {}
    used = graph.given | graph.kept
    used |= {name for node in graph.nodes for name in (*node.inputs, *node.outputs)}
    for name in graph.tensors:
        chain = [name] if name in used and not graph.is_constant(name) else []
        while chain and chain[-1] not in views and chain[-1] in parents:
            chain.append(parents[chain[-1]].parent)
        for current in reversed(chain):
            if current not in views:
                is_dense = graph.storage(current) in (Storage.PORT, Storage.STATE)
                views[current] = _view(graph.tensors[current], parents, views, is_dense)
    return views


def _view(tensor: Tensor, parents: dict[str, Edge], views: dict[str, View], is_dense: bool) -> View:
    """The view in the parent, if kernels can use it and, where `is_dense`, the caller or the next run can."""
    own = dense(tensor.shape, tensor.dtype.size)
    edge = parents.get(tensor.name)
    view = edge.view(views[edge.parent]) if edge is not None else None
    if view is not None and slot_of(view, tensor) is not None:
        pairs = zip(tensor.shape, view.strides, own, strict=True)
        if not is_dense or all(there == here for extent, there, here in pairs if extent > 1):
            return view
    parents.pop(tensor.name, None)
    return View(tensor.name, 0, own)


def subsets(operands: Sequence[Operand]) -> Iterator[frozenset[Operand]]:
    """All choices of some of the operands, the smallest first."""
    for count in range(len(operands) + 1):
        yield from map(frozenset, combinations(operands, count))
