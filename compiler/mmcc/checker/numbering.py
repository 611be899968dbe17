# SPDX-License-Identifier: Apache-2.0
"""Numbers of a replay: every grain of every tensor has one, and a view has those of what it views."""

from __future__ import annotations

from bisect import bisect_right
from math import prod

import numpy as np

from mmcc.checker.grain import used
from mmcc.checker.memory import Numbers
from mmcc.checker.views import at_grain
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Plan
from mmcc.ir.types import geometry


class Numbering:
    """What memory should hold of each tensor, at a grain of `unit` bytes."""

    def __init__(self, graph: Graph, plan: Plan, unit: int) -> None:
        self._graph, self._plan, self._unit = graph, plan, unit
        self._index = {name: k for k, node in enumerate(graph.nodes) for name in node.outputs}
        self.first: dict[str, int] = {}  # number of a tensor's first element
        total = 0
        for name in used(graph):
            self.first[name] = total
            total += graph.tensors[name].bytes // unit
        self.kind = np.dtype(np.int32 if total < 2**31 else np.int64)
        self._starts, self._names = list(self.first.values()), list(self.first)
        self._viewed: dict[str, Numbers] = {}

    @property
    def view_bytes(self) -> int:
        """Bytes of all views: their numbers are remembered, those of others are in order."""
        return sum(self._graph.tensors[name].bytes for name in self.first if self.is_view(name))

    def tensor(self, number: int) -> str:
        """The tensor that a number is of."""
        return self._names[bisect_right(self._starts, number) - 1]

    def of(self, name: str, rows: Span, cols: Span | None = None) -> Numbers:
        """What these rows should hold."""
        tensor = self._graph.tensors[name]
        height, width, channels = geometry(tensor.shape)
        cols = Span(0, width) if cols is None else cols
        size = tensor.dtype.bytes(channels) // self._unit
        if self.is_view(name):
            if name not in self._viewed:
                parts = np.arange(self._moved(name) // self._unit, dtype=self.kind)
                grains = self._grains(name, {})[..., None] + parts
                self._viewed[name] = grains.reshape(height, width, size)
            return self._viewed[name][rows.lo : rows.hi, cols.lo : cols.hi]
        first = self.first[name] + rows.lo * width * size
        flat = np.arange(first, first + len(rows) * width * size, dtype=self.kind)
        return flat.reshape(len(rows), width, size)[:, cols.lo : cols.hi]

    def is_view(self, name: str) -> bool:
        index = self._index.get(name)
        return index in self._plan.aliases or index in self._plan.copied

    def _moved(self, name: str) -> int:
        """Bytes of a tensor that views move as one: an element, or a grain if that is more."""
        return max(self._unit, self._graph.tensors[name].dtype.size)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape where what views move as one is an element."""
        tensor = self._graph.tensors[name]
        return (*tensor.shape[:-1], *(n * tensor.dtype.size // self._moved(name) for n in tensor.shape[-1:]))

    def _grains(self, name: str, known: dict[str, Numbers]) -> Numbers:
        """The number of all that views move as one, in that shape; a view has those of what it views.

        A view may see a tensor through several others: that is `known` then.
        """
        if name not in known:
            known[name] = self._seen(name, known)
        return known[name]

    def _seen(self, name: str, known: dict[str, Numbers]) -> Numbers:
        shape, step = self.shape(name), self._moved(name) // self._unit
        own = self.first[name] + step * np.arange(prod(shape), dtype=self.kind).reshape(shape)
        if not self.is_view(name):
            return own
        node, index = self._graph.producer[name], self._index[name]
        copied = self._plan.copied.get(index, ())
        parts = [self._grains(n, known) if k not in copied else None for k, n in enumerate(node.inputs)]
        filled = [
            np.full(self.shape(n), -1, self.kind) if part is None else part
            for n, part in zip(node.inputs, parts, strict=True)
        ]
        seen = at_grain(node.op, shape).reference(*filled)[0].reshape(shape)
        return np.where(seen < 0, own, seen)
