# SPDX-License-Identifier: Apache-2.0
"""What is known of groups, in all layouts of a graph.

A layout differs from the one before it in a join or two, and most groups touch neither. What such a group
needs is the same number of bytes in both, but for what only lives on beside it: it is found out once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mmcc.ir.graph import Graph
from mmcc.planner.fusion.rows import KernelRows
from mmcc.planner.fusion.shared import Shared
from mmcc.planner.memory.allocations import bits
from mmcc.planner.memory.mask_sums import MaskSums
from mmcc.planner.request import PlanRequest

Key = tuple[int, ...]


@dataclass(slots=True)
class Figures:
    """Bytes of a group (see `Footprint`), less those of what it does not touch; None if not yet known."""

    least: int | None = None
    tight: int | None = None
    inner: int | None = None
    floor: int | None = None  # see `Space.floor`
    drained: bool | None = None  # kernels make the rest of their rows at its end


class KnownGroups:
    """The figures of all groups of a graph that were looked at."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._figures: dict[Key, Figures] = {}

    def number(self, thing: Hashable) -> int:
        """A number for a kernel or an allocation, the same for those of other layouts that are the same."""
        return self._numbers.setdefault(thing, len(self._numbers))

    def figures(self, key: Key) -> Figures:
        """Those of a group; to be filled in by who finds them out."""
        if key not in self._figures:
            self._figures[key] = Figures()
        return self._figures[key]


_KNOWN: WeakKeyDictionary[Graph, dict[Hashable, KnownGroups]] = WeakKeyDictionary()


def known_groups(graph: Graph, request: PlanRequest) -> KnownGroups:
    """What is known of a graph's groups, kept as long as the graph: requests share it unless they differ in
    what a key does not tell."""
    apart = (
        request.align,
        request.recompute > 1,
        tuple(sorted((node, kind.name) for node, kind in request.ordered.items())),
    )
    return _KNOWN.setdefault(graph, {}).setdefault(apart, KnownGroups())


class GroupKeys:
    """Keys of the groups of one layout: two groups of a graph that have the same one hold the same bytes."""

    def __init__(self, shared: Shared, known: KnownGroups) -> None:
        self._shared = shared
        names = [allocation.name for allocation in shared.model.allocations]
        allocations = range(len(names))
        self._kernel = [known.number(_kernel(shared, names, k)) for k in range(len(shared.model.kernels))]
        self._kernels = MaskSums([1 << number for number in self._kernel])
        self._allocations = MaskSums([1 << known.number(_allocation(shared, k)) for k in allocations])
        self._touches = [sum(1 << a for a in kernel.allocations) for kernel in shared.model.kernels]
        self._members: dict[int, tuple[int, int, int]] = {}

    def key(self, before: int, members: int, last: int, after: int) -> tuple[Key, int]:
        """The key of a group of kernels, given the allocations alive before and after it; and the bytes of
        those that it does not touch."""
        if members not in self._members:
            touched = 0
            for kernel in bits(members):
                touched |= self._touches[kernel]
            self._members[members] = self._kernels(members), touched, self._allocations(touched)
        kernels, touched, own = self._members[members]
        beside = self._shared.bytes(before & after & ~touched)
        first, then = self._allocations(before & touched), self._allocations(after & touched)
        return (kernels, self._kernel[last], own, first, then), beside


def _kernel(shared: Shared, name: Sequence[str], index: int) -> Hashable:
    """All that a group's bytes depend on of one of its kernels; `name` is that of each allocation."""
    kernel = shared.model.kernels[index]
    return (
        "kernel",
        kernel.node,
        kernel.at_once,
        kernel.scratch,
        tuple(name[a] for a in kernel.outputs),
        tuple(name[a] for a in kernel.allocations),
        tuple((name[a], ahead, back) for a, ahead, back in kernel.over),
        _rows(shared, name, shared.rows.kernels[index]),
        _rows(shared, name, shared.rows.alone[index]),
    )


def _rows(shared: Shared, name: Sequence[str], rows: KernelRows) -> Hashable:
    return (
        rows.steps,
        tuple((shared.model.kernels[maker].node, counts) for maker, counts in rows.needs),
        tuple(
            (
                read.tensor,
                name[read.allocation],
                read.own.tobytes(),
                read.low.tobytes(),
                read.line.tobytes(),
                read.reach,
                read.elementwise,
            )
            for read in rows.reads
        ),
        rows.start.tobytes(),
        rows.end.tobytes(),
        rows.accumulates,
        tuple((name[a], start, end) for a, start, end in rows.results),
    )


def _allocation(shared: Shared, index: int) -> Hashable:
    """All that a group's bytes depend on of an allocation that it touches."""
    model = shared.model
    allocation, rows = model.allocations[index], shared.rows.allocations[index]
    reader = shared.merges.get(index)
    return (
        "allocation",
        allocation.name,
        allocation.size,
        allocation.bytes,
        allocation.align,
        allocation.from_start,
        allocation.to_end,
        tuple(model.kernels[k].node for k in bits(allocation.writers)),
        tuple(model.kernels[k].node for k in bits(allocation.users)),
        rows,
        None if reader is None else model.kernels[reader].node,
    )
