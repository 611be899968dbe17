# SPDX-License-Identifier: Apache-2.0
"""Rows that a stretch of nodes between kept values holds of what it makes again, guessed from halos.

A value's row is made again some rows ahead of the last value of its stretch, by the halos of the nodes
between them, and the gradient comes back to it as many rows later. Until then it is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

from mmcc.ir.graph import Graph, Node, nest_of
from mmcc.ir.types import geometry

LEAST_ROWS = 3  # of a value whose gradient comes at once: what the window of a layer of 3x3 reads of it


class Stretches:
    """Of a training step's graph, the stretches that a choice makes again, and what each holds."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._halos: dict[str, list[tuple[str, int]]] = {}

    def of(self, again: Sequence[str]) -> list[list[str]]:
        """What is made again, in parts that do not read each other's values, each in order."""
        found: list[list[str]] = []
        for name in again:
            inputs = set(self._graph.producer[name].inputs)
            apart = [part for part in found if inputs.isdisjoint(part)]
            joined = [each for part in found if not inputs.isdisjoint(part) for each in part]
            found = [*apart, [*joined, name]]
        place = {name: k for k, name in enumerate(again)}
        return [sorted(part, key=place.__getitem__) for part in found]

    def bytes_held(self, stretch: Sequence[str]) -> int:
        """Bytes of the rows of a stretch's values that are there at once, about; at most all rows of each."""
        shapes = {name: geometry(self._graph.tensors[name].shape) for name in stretch}
        tallest = max(rows for rows, _, _ in shapes.values())
        scale = {name: Fraction(tallest, rows) for name, (rows, _, _) in shapes.items()}
        edges = [(read, name, halo * scale[read]) for name in stretch for read, halo in self._reads(name)
                 if read in scale]  # fmt: skip
        made, wanted = (dict.fromkeys(stretch, Fraction(0)) for _ in range(2))
        for read, name, halo in edges:
            made[name] = max(made[name], made[read] + halo)
        for read, name, halo in reversed(edges):
            wanted[read] = max(wanted[read], wanted[name] + halo)
        end, held = max(made.values()), 0
        for name, (rows, cols, channels) in shapes.items():
            waited = ceil((end - made[name] + wanted[name]) / scale[name])
            held += min(rows, waited + LEAST_ROWS) * self._graph.tensors[name].dtype.bytes(cols * channels)
        return held

    def _reads(self, name: str) -> list[tuple[str, int]]:
        """What the node that makes a value reads, and how many rows it reads of it after the row it makes."""
        if name not in self._halos:
            node = self._graph.producer[name]
            reads = [(read, k) for k, read in enumerate(node.inputs) if read in self._graph.producer]
            self._halos[name] = [(read, self._halo(node, k)) for read, k in reads]
        return self._halos[name]

    def _halo(self, node: Node, read: int) -> int:
        nest, rows = nest_of(self._graph, node), geometry(self._graph.tensors[node.output].shape)[0]
        return len(nest.rows_needed(read, rows // 2)) // 2 if read < len(nest.reads) else 0
