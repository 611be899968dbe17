# SPDX-License-Identifier: Apache-2.0
"""A tiny graph in one layout: kernels, what they need and read, and the calls of its groups one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from brute_layouts import Rules, is_dense
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Nest, Span
from mmcc.ir.types import geometry
from mmcc.ops.movement import Concat, Reshape, Slice, Transpose

MOVES = (Concat, Reshape, Slice, Transpose)
Known = tuple[dict[int, Nest], dict[tuple[int, int, int], tuple[int, int]]]  # nests and rows, in any layout


@dataclass
class ScheduledKernel:
    """A node that runs in a layout."""

    node: int
    reads: tuple[str, ...]
    before: int = 0
    needs: list[tuple[int, list[int]]] = field(
        default_factory=list
    )  # a kernel, and its rows before each of ours


@dataclass(frozen=True)
class View:
    """A tensor's bytes in its allocation: where each row starts and ends."""

    allocation: str
    start: tuple[int, ...]
    end: tuple[int, ...]
    dense: bool


class Laid:
    """A graph in one layout: kernels, allocations, and every plan of it."""

    def __init__(self, graph: Graph, lies: Mapping[str, tuple[str, Any]], rules: Rules, known: Known) -> None:
        self.graph, self.rules = graph, rules
        inplace: frozenset[tuple[int, int]] = lies[""][1]
        self.views = {n: self._view(n, *lies[n]) for n in lies if n}
        self.copied: dict[int, list[int]] = {}
        self.alias: dict[str, int] = {}
        nodes: list[int] = []
        for index, node in enumerate(graph.nodes):
            code = [k for k in range(len(node.inputs)) if (index, k) not in inplace]
            if isinstance(node.op, MOVES) and not code:
                self.alias[node.output] = index
            else:
                nodes.append(index)
                if isinstance(node.op, Concat):
                    self.copied[index] = code
        self.maker = {graph.nodes[index].output: k for k, index in enumerate(nodes)}
        self.nests, self.spans = known
        self._groups: dict[int, list[tuple[int, int]]] = {}
        self.sums = {k: rules.sums[index] for k, index in enumerate(nodes) if index in rules.sums}
        self.ordered = {k: rules.ordered[index] for k, index in enumerate(nodes) if index in rules.ordered}
        self.kernels = [ScheduledKernel(index, self._reads(index)) for index in nodes]
        for k, kernel in enumerate(self.kernels):
            for name in graph.activations(graph.nodes[kernel.node]):
                kernel.before |= self._made_by(name)
            for rider in rules.riders.get(kernel.node, ()):
                kernel.before |= 1 << nodes.index(rider)
            kernel.needs = self._needs(k)
        self.allocations = sorted({view.allocation for view in self.views.values()} & self._used())
        self.all = (1 << len(self.kernels)) - 1
        self.writers = dict.fromkeys(self.allocations, 0)
        self.users = dict.fromkeys(self.allocations, 0)
        for k, kernel in enumerate(self.kernels):
            self.writers[self.allocation_of(kernel)] |= 1 << k
            for name in (*kernel.reads, graph.nodes[kernel.node].output):
                self.users[self.views[name].allocation] |= 1 << k
        members = {a: [n for n, v in self.views.items() if v.allocation == a] for a in self.allocations}
        self.members = members
        inputs, outputs = graph.input_names, graph.output_names
        self.start = {r for r in self.allocations if r in rules.external or inputs & set(members[r])}
        self.kept = {
            r
            for r in self.allocations
            if r in rules.external or outputs & set(members[r]) or not self.users[r]
        }

    def _used(self) -> set[str]:
        names = {*self.graph.input_names, *self.graph.output_names}
        names |= {n for node in self.graph.nodes for n in (*node.inputs, node.output)}
        return {self.views[n].allocation for n in names if not self.graph.is_constant(n)}

    def _view(self, name: str, allocation: str, at: Any) -> View:
        size = self.graph.tensors[name].dtype.size
        rows = at.reshape(geometry(self.graph.tensors[name].shape))
        low = tuple(int(row.min()) for row in rows)
        return View(allocation, low, tuple(int(row.max()) + size for row in rows), is_dense(rows, size))

    def allocation_of(self, kernel: ScheduledKernel) -> str:
        return self.views[self.graph.nodes[kernel.node].output].allocation

    def _reads(self, index: int) -> tuple[str, ...]:
        node = self.graph.nodes[index]
        operands = self.copied.get(index, range(len(node.inputs)))
        names = dict.fromkeys(node.inputs[k] for k in operands)
        return tuple(n for n in names if not self.graph.is_constant(n))

    def _made_by(self, name: str) -> int:
        if name in self.alias:
            parts = self.graph.nodes[self.alias[name]].inputs
            return sum(1 << k for k in {b for n in parts for b in bits(self._made_by(n))})
        return 1 << self.maker[name] if name in self.maker else 0

    def nest(self, index: int) -> Nest:
        if index not in self.nests:
            node = self.graph.nodes[index]
            self.nests[index] = node.op.nest(*(self.graph.tensors[n].shape for n in node.inputs))
        return self.nests[index]

    def rows(self, index: int, operand: int, row: int) -> tuple[int, int]:
        """Rows of an operand that one row of a node's output needs."""
        key = (index, operand, row)
        if key not in self.spans:
            nest = self.nest(index)
            node = self.graph.nodes[index]
            found = [
                nest.rows_needed(k, row) for k, access in enumerate(nest.reads) if access.operand == operand
            ]
            if len(self.graph.tensors[node.inputs[operand]].shape) < len(
                self.graph.tensors[node.output].shape
            ):
                self.spans[key] = 0, geometry(self.graph.tensors[node.inputs[operand]].shape)[0]
                return self.spans[key]
            some = [span for span in found if len(span)]
            self.spans[key] = (min(s.lo for s in some), max(s.hi for s in some)) if some else (0, 0)
        return self.spans[key]

    def height(self, k: int) -> int:
        return geometry(self.graph.tensors[self.graph.nodes[self.kernels[k].node].output].shape)[0]

    def steps(self, k: int) -> int:
        """Steps of a kernel in a group of several: rows that it makes, or that it takes in for a sum."""
        return self.taken(k) if k in self.sums else self.height(k)

    def taken(self, k: int) -> int:
        """Rows of what a kernel sums up."""
        node = self.kernels[k].node
        return geometry(self.graph.tensors[self.graph.nodes[node].inputs[self._summed(node)]].shape)[0]

    def _summed(self, index: int) -> int:
        """Whose rows a node sums up: its only operand that is no constant, or the last, a gradient."""
        node = self.graph.nodes[index]
        return max(k for k, name in enumerate(node.inputs) if not self.graph.is_constant(name))

    def step_reads(self, k: int, operand: int, step: int, *, alone: bool) -> tuple[int, int]:
        """Rows of an operand that one step of a kernel reads."""
        if k in self.sums and not alone:
            return self._goes_with(self.kernels[k].node, operand, step)
        return self.rows(self.kernels[k].node, operand, step)

    def _goes_with(self, index: int, operand: int, row: int) -> tuple[int, int]:
        """Rows of an operand that a node needs to take in one row of what it sums up."""
        if operand == self._summed(index):
            return row, row + 1
        if self.graph.is_constant(self.graph.nodes[index].inputs[operand]):
            return 0, 0
        nest = self.nest(index)
        (rows,) = (a.index[0] for a in nest.reads if a.operand == self._summed(index))
        assert rows is not None
        assert rows.loop is not None
        walked = {rows.loop: Span(row, row + 1)}
        spans = [nest.needed(k, 0, walked) for k, a in enumerate(nest.reads) if a.operand == operand]
        some = [span for span in spans if len(span)]
        return (min(s.lo for s in some), max(s.hi for s in some)) if some else (0, 0)

    def _needs(self, k: int) -> list[tuple[int, list[int]]]:
        node, found = self.graph.nodes[self.kernels[k].node], dict[int, list[int]]()
        for row in range(self.steps(k)):
            asked: dict[int, int] = {}
            for operand, name in enumerate(node.inputs):
                if not self.graph.is_constant(name):
                    self._ask(name, *self.step_reads(k, operand, row, alone=False), asked)
            for maker, count in asked.items():
                counts = found.setdefault(maker, [0] * row)
                counts.append(max([count, *counts[-1:]]))
        return [*found.items(), *self._ridden(k)]

    def _ridden(self, k: int) -> Iterator[tuple[int, list[int]]]:
        """Kernels that ride along with one, and their steps before each of its own: as many rows of what both
        read."""
        index = self.kernels[k].node
        for other in self.rules.riders.get(index, ()):
            name = self.graph.nodes[other].inputs[self._summed(other)]
            operand = self.graph.nodes[index].inputs.index(name)
            ends = [self.step_reads(k, operand, step, alone=False)[1] for step in range(self.steps(k))]
            rider = next(j for j, kernel in enumerate(self.kernels) if kernel.node == other)
            yield rider, [max(ends[: step + 1]) for step in range(len(ends))]

    def _ask(self, name: str, low: int, high: int, asked: dict[int, int]) -> None:
        if name in self.alias:
            index = self.alias[name]
            for operand, part in enumerate(self.graph.nodes[index].inputs):
                if not self.graph.is_constant(part):
                    spans = [self.rows(index, operand, row) for row in range(low, high)]
                    some = [s for s in spans if s[1] > s[0]] or [(0, 0)]
                    self._ask(part, min(s[0] for s in some), max(s[1] for s in some), asked)
        elif name in self.maker:
            maker = self.maker[name]
            if maker in self.sums and high > 0:
                high = self.steps(maker)  # it is there with the last
            asked[maker] = max(asked.get(maker, 0), high)

    # -- what lives

    def size(self, allocation: str) -> int:
        align = self.align(allocation)
        return (
            0
            if allocation in self.rules.external
            else -(-self.graph.tensors[allocation].bytes // align) * align
        )

    def align(self, allocation: str) -> int:
        return max(self.rules.align, self.graph.tensors[allocation].dtype.size)

    def alive(self, done: int) -> set[str]:
        return {
            r
            for r in self.allocations
            if (r in self.start or self.writers[r] & done) and (r in self.kept or self.users[r] & ~done)
        }

    # -- single nodes, row by row as a whole

    def whole(self, name: str) -> bool:
        view = self.views[name]
        return (
            view.dense
            and view.start[0] == 0
            and self.graph.tensors[name].bytes == (self.graph.tensors[view.allocation].bytes)
        )

    def over(self, k: int) -> dict[str, tuple[int, int]]:
        """By allocation the distances, forward and backward, at which the output may be written over it."""
        kernel, node = self.kernels[k], self.graph.nodes[self.kernels[k].node]
        out = node.output
        if not self.whole(out) or out in self.rules.external:
            return {}
        found: dict[str, tuple[int, int]] = {}
        for name in kernel.reads:
            allocation = self.views[name].allocation
            ahead, back = self._by_rows(kernel.node, name)
            old = found.get(allocation, (0, 0))
            found[allocation] = max(ahead, old[0]), max(back, old[1])
        barred = {self.views[n].allocation for n in kernel.reads if not self.whole(n)} | {
            self.views[out].allocation
        }
        return {r: d for r, d in found.items() if r not in barred and r not in self.rules.external}

    def _by_rows(self, index: int, name: str) -> tuple[int, int]:
        node, nest = self.graph.nodes[index], self.nest(index)
        ahead = back = 0
        out, into = self.graph.tensors[node.output], self.graph.tensors[name]
        rows = geometry(out.shape)[0]
        out_row, in_row = out.bytes // rows, into.bytes // geometry(into.shape)[0]
        for operand, other in enumerate(node.inputs):
            if other != name:
                continue
            spans = [self.rows(index, operand, r) for r in range(rows)]
            for r in range(rows):
                later = [s[0] for s in spans[r:] if s[1] > s[0]]
                sooner = [s[1] for s in spans[: r + 1] if s[1] > s[0]]
                if sooner:
                    back = max(back, max(sooner) * in_row - r * out_row)
                if later and not self._in_place(nest, operand, out.dtype.size, into.dtype.size):
                    ahead = max(ahead, (r + 1) * out_row - min(later) * in_row)
        if index in self.rules.ordered:
            return (out.bytes, back) if self.rules.ordered[index] else (ahead, into.bytes)
        return ahead, back

    def _in_place(self, nest: Nest, operand: int, out: int, into: int) -> bool:
        reads = [k for k, access in enumerate(nest.reads) if access.operand == operand]
        return out <= into and all(nest.is_elementwise_in(k) for k in reads)

    # -- groups

    def groups(self, done: int) -> list[tuple[int, int]]:
        """Sets of kernels that may run next as one group, with the last of each."""
        if done not in self._groups:
            self._groups[done] = list(self._next(done))
        return self._groups[done]

    def _next(self, done: int) -> Iterator[tuple[int, int]]:
        left = [k for k in range(len(self.kernels)) if not done >> k & 1]
        most = len(left) if self.rules.groups else 1
        for count in range(1, most + 1):
            for some in combinations(left, count):
                mask = sum(1 << k for k in some)
                if any(self.kernels[k].before & ~(done | mask) for k in some):
                    continue
                read = {k for k in some if any(self.kernels[j].before >> k & 1 for j in some)}
                ends = [k for k in some if k not in read]
                if count > 1 and any(self.ordered.get(k) for k in some):
                    continue  # rows from the last to the first: nobody demands them so
                if len(ends) == 1:
                    yield mask, ends[0]

    def events(self, mask: int, last: int, after: set[str]) -> list[tuple[int, int]]:
        made: dict[int, int] = {}
        found: list[tuple[int, int]] = []

        def make(k: int, row: int) -> None:
            for producer, counts in self.kernels[k].needs:
                while mask >> producer & 1 and made.get(producer, 0) < counts[row]:
                    make(producer, made.get(producer, 0))
            made[k] = row + 1
            found.append((k, row))

        for row in range(self.steps(last)):
            make(last, row)
        short = [k for k in bits(mask) if made.get(k, 0) < self.steps(k)]
        for k in short:
            if k != last and self.allocation_of(self.kernels[k]) in after:
                for row in range(made.get(k, 0), self.steps(k)):
                    if row >= made.get(k, 0):
                        make(k, row)
        return found

    def mergers(self, allocation: str, mask: int, last_used: set[str]) -> Iterator[int]:
        writers, readers = self.writers[allocation], self.users[allocation] & ~self.writers[allocation]
        if writers.bit_count() != 1 or readers.bit_count() != 1 or len(self.members[allocation]) != 1:
            return
        (reader,) = bits(readers)
        if not mask >> reader & 1 or allocation in self.start | self.kept:
            return
        kernel, node = self.kernels[reader], self.graph.nodes[self.kernels[reader].node]
        if self.allocation_of(kernel) in self.rules.external or self.steps(bits(writers)[0]) != self.steps(
            reader
        ):
            return
        if not self._same(kernel.node, allocation):
            return
        if any(self.views[n].allocation in last_used and self._same(kernel.node, n) for n in kernel.reads):
            return  # it had better be written over what dies
        assert allocation in node.inputs
        yield reader

    def _same(self, index: int, name: str) -> bool:
        """True if a node reads a tensor element by element, and elements are equally large."""
        node, nest = self.graph.nodes[index], self.nest(index)
        own = [k for k, access in enumerate(nest.reads) if node.inputs[access.operand] == name]
        sizes = {self.graph.tensors[n].dtype.size for n in (name, node.output)}
        return len(sizes) == 1 and all(nest.is_elementwise_in(k) for k in own)


def bits(mask: int) -> list[int]:
    """Members of a set as a bit mask."""
    return [k for k in range(mask.bit_length()) if mask >> k & 1]
