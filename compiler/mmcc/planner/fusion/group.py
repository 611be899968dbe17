# SPDX-License-Identifier: Apache-2.0
"""What one group holds while it runs: whole tensors that come, go and stay, rings, what is kept, constants.

All of it is alive in one step of the plan. What of it may share bytes is in `distances.py`; how many bytes it
needs at least is in `footprint.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from mmcc.ir.plan import BLOCK_ALIGN, BufferKind, aligned
from mmcc.planner.fusion.shared import Shared, kernel_allocation
from mmcc.planner.fusion.stores import Store, in_strips, make_store
from mmcc.planner.fusion.strips import Cut
from mmcc.planner.fusion.timeline import Timeline
from mmcc.planner.memory.allocations import bits
from mmcc.planner.streaming.blocks import WeightStreaming

NEVER = 2**62  # a time after every step


@dataclass(frozen=True, slots=True)
class Item:
    """Something that has bytes of its own while the group runs.

    `allocation` is -1 for scratch, what a kernel keeps, and constants, which belong to `kernel` (-1: any
    kernel of the group; the halves of the double buffer that weights are streamed to are -1 and -2).
    """

    allocation: int
    kernel: int
    size: int
    align: int
    kind: BufferKind = BufferKind.SCRATCH


class GroupMemory:
    """What a group of the kernels `members` (a mask) holds, given the allocations alive before and after it.

    Of those it sees, `live_through` have bytes before and after it, `last_used` are read for the last time
    in it and `defined` are its results.
    """

    def __init__(
        self,
        shared: Shared,
        line: Timeline,
        members: int,
        before: int,
        after: int,
        drained: tuple[int, ...] = (),
        cut: Cut | None = None,
        streaming: WeightStreaming | None = None,
    ) -> None:
        self.shared, self.line, self.drained, self.cut, self.streaming = shared, line, drained, cut, streaming
        self.kernels = bits(members)
        self.rows = shared.rows.kernels if len(self.kernels) > 1 else shared.rows.alone  # by kernel
        self._members = members
        self.live_through = before & after
        self.last_used, self.defined = before & ~after, after & ~before

    @cached_property
    def inside(self) -> int:
        """Allocations that nobody outside sees."""
        touched = 0
        for kernel in self.kernels:
            for allocation in self.shared.model.kernels[kernel].allocations:
                touched |= 1 << allocation
        return touched & ~self.live_through & ~self.last_used & ~self.defined

    @property
    def held(self) -> int:
        """Allocations that have bytes at some time while the group runs."""
        return self.live_through | self.last_used | self.defined | self.inside

    @cached_property
    def merged(self) -> dict[int, int]:
        """Allocations inside that lie in the output of their reader."""
        model, found = self.shared.model, dict[int, int]()
        for allocation, reader in self.shared.merges.items():
            if (
                self.inside >> allocation & 1
                and self._members >> reader & 1
                and not self._keeps_place(reader)
            ):
                found[allocation] = kernel_allocation(model, reader)
        return found

    def _keeps_place(self, reader: int) -> bool:
        """True if the reader had better be written over something at its last use."""
        reads = self.rows[reader].reads
        return any(read.elementwise and self.last_used >> read.allocation & 1 for read in reads)

    @cached_property
    def stores(self) -> tuple[Store, ...]:
        """Everything but what lives through: what is last used, defined or inside."""
        return self._stores(~self.live_through)

    @cached_property
    def through(self) -> tuple[Store, ...]:
        """What lives through and has allocations inside lie in it, which need no bytes of their own."""
        return self._stores(self.live_through)

    def _stores(self, tops: int) -> tuple[Store, ...]:
        """The stores in some allocations."""
        members: dict[int, list[int]] = {}
        for allocation in bits(self.last_used | self.defined | self.inside):
            top = allocation
            while top in self.merged:
                top = self.merged[top]
            if tops >> top & 1:
                members.setdefault(top, []).append(allocation)
        allocations = self.shared.model.allocations
        return tuple(self._store(top, some) for top, some in members.items() if allocations[top].size > 0)

    def _store(self, top: int, allocations: list[int]) -> Store:
        """The store of some allocations, which groups with this timeline share if as many of them use it."""
        ordered = (top, *(allocation for allocation in allocations if allocation != top))
        inside, users = bool(self.inside >> top & 1), 0
        for allocation in ordered:
            users |= self.shared.model.allocations[allocation].users
        alone = len(self.kernels) == 1  # the rows of its kernel are others then
        key = ordered, inside, alone, users & self._members
        found = self.line.stores.get(key)
        if found is None:
            found = make_store(self.shared, self.line, self.rows, self._members, ordered, inside=inside)
            self.line.stores[key] = found
        assert isinstance(found, Store)
        return in_strips(self.shared, found, self.cut) if inside and self.cut is not None else found

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """For each store the times from which and to which its bytes matter."""
        return tuple(self._span(store) for store in self.stores)

    def _span(self, store: Store) -> tuple[int, int]:
        if self.last_used >> store.allocation & 1:
            first = -1
        else:
            first = min((writer.begin(self.line) for writer in store.writers), default=-1)
        if self.defined >> store.allocation & 1:
            return first, NEVER
        until = [self.line.last_need(kernel, read.line) for kernel, read in store.reads]
        until += [self.line.end(writer.kernel) for writer in store.writers]
        return first, max(until, default=first)

    @cached_property
    def scratch(self) -> int:
        """Bytes that kernels of the group work in, one call after another."""
        own = {kernel for kernel, _ in self.keepers}
        some = (self.shared.model.kernels[kernel].scratch for kernel in self.kernels if kernel not in own)
        return max(some, default=0)

    @cached_property
    def keepers(self) -> tuple[tuple[int, int], ...]:
        """Kernels that keep something from step to step while others run, and the bytes of it: a sum, or what
        a row hands on to the next."""
        model, found = self.shared.model, list[tuple[int, int]]()
        for kernel in self.kernels:
            carries = len(self.kernels) > 1 and model.kernels[kernel].node in self.shared.request.ordered
            size = self.rows[kernel].accumulates or (model.kernels[kernel].scratch if carries else 0)
            if size:
                found.append((kernel, size))
        return tuple(found)

    @cached_property
    def stay(self) -> int:
        """Bytes that the group holds all the time, and shares with nothing."""
        return self.shared.bytes(self.live_through) + self.always

    @property
    def always(self) -> int:
        """Bytes of scratch and of constants: what is held all the time and belongs to the group alone."""
        return self.scratch + (self.streaming.bytes if self.streaming else 0)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Everything with bytes that does not merely stay: stores, what is kept, scratch and constants."""
        allocations, align = self.shared.model.allocations, self.shared.request.align
        items = [Item(s.allocation, -1, s.size, allocations[s.allocation].align) for s in self.stores]
        for kernel, size in self.keepers:
            items.append(Item(-1, kernel, -(-size // align) * align, max(4, align)))
        if self.scratch:
            items.append(Item(-1, -1, self.scratch, align))
        return (*items, *self._constants())

    def _constants(self) -> Iterator[Item]:
        """Constants that stay while the group runs, and buffers for those that are streamed."""
        if self.streaming is not None:
            for kernel, blocks in self.streaming.resident:
                yield Item(-1, kernel, aligned(blocks.bytes), BLOCK_ALIGN, BufferKind.STAGED)
            for half in (-1, -2)[: self.streaming.buffers] if self.streaming.streamed else ():
                yield Item(-1, half, self.streaming.buffer_bytes, BLOCK_ALIGN, BufferKind.STAGED)

    @property
    def own_constants(self) -> list[Item]:
        """The constants among the items."""
        return [item for item in self.items if item.kind is BufferKind.STAGED]
