# SPDX-License-Identifier: Apache-2.0
"""A value that nodes read in parts: the steps of a sequence, the images of a batch, the gates of a cell.

Its pieces cease to be needed one by one, but its tensor has all its bytes until the last part of it was read
or copied. A part that outlives the tensor has a copy of its own, for its one reader: before the last such
copy was made, all others were there beside the whole tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mmcc.ir.graph import Graph
from mmcc.ir.traits import Alias
from mmcc.planner.bounds.value_rows import ValueRows


@dataclass(frozen=True, slots=True)
class Split:
    """A value that is read in parts."""

    maker: int  # the node that computes it; -1 if it is given
    size: int  # bytes of its tensor
    pieces: int  # a mask
    parts: Mapping[int, tuple[int, ...]]  # by node that reads some: bytes of each
    whole: int  # nodes that read the tensor itself

    def left(self, done: int) -> list[int]:
        """Bytes of the parts that are still to be read after some nodes."""
        return [size for reader, sizes in self.parts.items() if not done >> reader & 1 for size in sizes]


def largest_split(rows: ValueRows) -> Split | None:
    """The largest value of which nodes read several parts and each part has one reader, if there is one."""
    maker = {name: k for k, node in enumerate(rows.graph.nodes) for name in node.outputs}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(rows.graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, []).append(index)
    values = {value for value in rows.values if maker.get(value, -1) not in rows.moves}
    found = (_split(rows, value, maker.get(value, -1), readers) for value in sorted(values))
    return max(filter(None, found), key=lambda split: split.size, default=None)


def _split(rows: ValueRows, value: str, maker: int, readers: Mapping[str, list[int]]) -> Split | None:
    graph, parts, whole = rows.graph, dict[int, tuple[int, ...]](), 0
    if value in graph.kept:
        return None
    for index in readers.get(value, ()):
        if index not in rows.moves:
            whole |= 1 << index
            continue
        node = graph.nodes[index]
        part = _part(rows, node.output, readers) if node.op.traits.alias is Alias.PART else None
        if part is None:
            return None
        reader, size = part
        parts[reader] = (*parts.get(reader, ()), size)
    if sum(map(len, parts.values())) < 2:
        return None
    pieces = sum(1 << piece for piece, of in enumerate(rows.values) if of == value)
    return Split(maker, _bytes(graph, value), pieces, parts, whole)


def _part(rows: ValueRows, name: str, readers: Mapping[str, list[int]]) -> tuple[int, int] | None:
    """The node that computes with a part, and the fewest bytes of it on the way there; None if there are
    several, or it becomes part of something else."""
    graph, size = rows.graph, _bytes(rows.graph, name)
    while True:
        mine = readers.get(name, [])
        if len(mine) != 1 or name in graph.kept:
            return None
        if mine[0] not in rows.moves:
            return mine[0], size
        if graph.nodes[mine[0]].op.traits.alias is Alias.JOIN:
            return None
        name = graph.nodes[mine[0]].output
        size = min(size, _bytes(graph, name))


def _bytes(graph: Graph, name: str) -> int:
    return graph.tensors[name].bytes
