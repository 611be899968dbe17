# SPDX-License-Identifier: Apache-2.0
"""What groups cost beside work: bytes that come from beyond a cache, or go there.

A cache of so many bytes holds what was used last. Two kinds of bytes are used again later than that:

- Tensors that are whole between two groups are written by one and read by the other. When that reads the
  first row, as many bytes as the group before wrote and read have gone through the cache.
- A tile iteration of a group makes a row in each of its nodes. Rows that wait inside, and all constants, are
  used again in the next one: after the constants of all its nodes and some rows of each.

Of what is used again after `between` bytes, the part above the cache's size is taken to be beyond it: all of
it with a cache that forgets in the order of use, less with those that there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.regions import Cache
from mmcc.ir.types import geometry
from mmcc.planner.cost import plan_cost, shares
from mmcc.planner.fusion.schedule import Spans, rows_of
from mmcc.planner.paging import traffic
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class _Operand:
    """What a node reads, by whatever name: bytes of the tensor, and who makes them; nobody makes inputs."""

    name: str
    bytes: int
    makers: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Reuse:
    """Bytes of a node that matter to caches."""

    operands: tuple[_Operand, ...]
    output: int
    weights: int  # and all other constants
    rows: int  # of operands and output that one step reads and writes
    steps: int


class Caches:
    """What the groups of one graph cost in the caches of a target."""

    def __init__(
        self, graph: Graph, aliases: Collection[int], caches: Sequence[Cache], spans: Spans | None = None
    ) -> None:
        """`aliases` are nodes that need no code: who reads what they make reads what they see."""
        self._graph, self._caches = graph, caches
        self._aliases = {graph.nodes[index].output: index for index in aliases}
        self._maker = {
            name: k for k, node in enumerate(graph.nodes) if k not in aliases for name in node.outputs
        }
        spans = spans or Spans(graph)
        with_code = (k for k in range(len(graph.nodes)) if k not in aliases)
        self._nodes = {k: self._reuse(k, spans) for k in with_code} if caches else {}
        self._readers: dict[int, set[int]] = {k: set() for k in self._nodes}
        for k, node in self._nodes.items():
            for operand in node.operands:
                for maker in operand.makers:
                    self._readers[maker].add(k)
        self._leaving = {maker for name in graph.output_names for maker in self._makers(name)}

    def cost(
        self, nodes: Collection[int], share: Mapping[int, float] | None = None, strips: int = 1
    ) -> float:
        """Of a group of nodes, in so many strips, each node's columns computed `share` times on average."""
        if not self._caches:
            return 0.0
        nodes = [k for k in nodes if k in self._nodes]
        members = [self._nodes[k] for k in nodes]
        made = set(nodes)
        whole = self._whole(nodes)
        constants = sum(node.weights for node in members)
        iteration = constants + sum(node.rows for node in members) // strips
        again = sum(node.weights * (node.steps * strips - 1) for node in members)
        inside = sum(
            2 * self._nodes[k].output * (share or {}).get(k, 1.0)
            for k in nodes
            if k not in self._leaving and self._readers[k] and self._readers[k] <= made
        )
        return sum(
            cache.beyond * (whole * _part(whole, cache) + (again + inside) * _part(iteration, cache))
            for cache in self._caches
        )

    def least(self, node: int) -> float:
        """What a node costs in any group: constants that do not fit are read again for each row."""
        if not self._caches:
            return 0.0
        own = self._nodes[node]
        again = own.weights * (own.steps - 1)
        return sum(cache.beyond * again * _part(own.weights, cache) for cache in self._caches)

    def _whole(self, nodes: Collection[int]) -> int:
        """Bytes of whole tensors that a group reads and writes."""
        made = set(nodes)
        operands = (operand for k in nodes for operand in self._nodes[k].operands)
        read = {o.name: o.bytes for o in operands if not o.makers or not o.makers <= made}
        seen = (k for k in nodes if k in self._leaving or not self._readers[k] <= made)
        return sum(read.values()) + sum(self._nodes[k].output for k in seen)

    def _reuse(self, index: int, spans: Spans) -> _Reuse:
        graph, node = self._graph, self._graph.nodes[index]
        steps = rows_of(graph, node.outputs[0])
        output = sum(graph.tensors[name].bytes for name in node.outputs)
        operands, rows, constants = list[_Operand](), output // max(1, steps), 0
        for operand, name in enumerate(node.inputs):
            size = graph.tensors[name].bytes
            if graph.is_constant(name):
                constants += size
                continue
            operands.append(_Operand(name, size, self._makers(name)))
            low, high = spans.rows(index, operand)
            rows += size // max(1, geometry(graph.tensors[name].shape)[0]) * int((high - low).max(initial=0))
        return _Reuse(tuple(operands), output, constants, rows, steps)

    def _makers(self, name: str) -> frozenset[int]:
        """The nodes that make a tensor, aliases looked through; none of an input."""
        if name in self._maker:
            return frozenset([self._maker[name]])
        if name not in self._aliases:
            return frozenset()
        seen = self._graph.activations(self._graph.nodes[self._aliases[name]])
        return frozenset[int]().union(*map(self._makers, seen))


def predicted(graph: Graph, plan: Plan, request: PlanRequest) -> float:
    """Predicted work of a plan, what it costs in caches, and what it waits for slow memory."""
    of = Caches(graph, plan.aliases, request.caches)
    groups = ((group, shares(graph, group)) for group in plan.groups) if request.caches else ()
    beyond = sum(of.cost(group.nodes, share, max(1, len(group.strips))) for group, share in groups)
    waits = traffic(graph, plan, request.cost, request.slow_cycles).stalls if request.slow_cycles else 0.0
    return plan_cost(graph, plan, request.cost) + beyond + waits


def _part(between: int, cache: Cache) -> float:
    """Which part of what is used again after so many bytes is beyond a cache."""
    return max(0.0, 1.0 - cache.size / between) if between else 0.0
