# SPDX-License-Identifier: Apache-2.0
"""What one group holds, region by region: bytes that a region needs for some of it, and costs of accesses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from mmcc.ir.plan import BufferKind
from mmcc.ir.regions import External, Region
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.distances import Apart, apart
from mmcc.planner.fusion.footprint import Footprint
from mmcc.planner.fusion.group import GroupMemory
from mmcc.planner.fusion.paths import Table
from mmcc.planner.fusion.space import Space
from mmcc.planner.memory.allocations import bits
from mmcc.planner.regions.fetches import Fetch, Fetched, choose_fetches, fetch_of, in_order, least_extra
from mmcc.planner.regions.traffic import Bytes, node_traffic, scratch_traffic, staged_traffic, sums_traffic

Prices = tuple[float, ...]  # of one thing in each region


class Part(GroupMemory):
    """The things of a group that are in one region: some stores, some sums, and perhaps what is its own.

    What the group holds elsewhere is not there; all that lives through it still is.
    """

    def __init__(self, whole: GroupMemory, stores: Sequence[int], sums: Sequence[int], *, own: bool) -> None:
        """Some stores and keepers of the group, by their positions; scratch and constants if `own`."""
        before, after = whole.live_through | whole.last_used, whole.live_through | whole.defined
        members = sum(1 << kernel for kernel in whole.kernels)
        streaming = whole.streaming if own else None
        super().__init__(
            whole.shared, whole.line, members, before, after, whole.drained, whole.cut, streaming
        )
        self.stores = tuple(whole.stores[k] for k in stores)
        self.keepers = tuple(whole.keepers[k] for k in sums)
        self.scratch = whole.scratch if own else 0


class Traffic:
    """What each kernel reads and writes of each allocation, and of its sums or its scratch."""

    def __init__(self, space: Space) -> None:
        graph, layout, request = space.graph, space.layout, space.request
        number = {allocation.name: k for k, allocation in enumerate(space.model.allocations)}
        self.kernels: list[dict[int, Bytes]] = []
        self.sums: list[Bytes] = []
        self.scratch: list[Bytes] = []
        for k, kernel in enumerate(space.model.kernels):
            found: dict[int, Bytes] = {}
            loads = request.loads.get(kernel.node, 1.0)
            for name, count in node_traffic(
                graph, kernel.node, loads, layout.copied.get(kernel.node)
            ).items():
                allocation = number[layout.views[name].allocation]
                found[allocation] = found.get(allocation, Bytes()) + count
            self.kernels.append(found)
            self.sums.append(sums_traffic(graph, kernel.node, space.rows.kernels[k].accumulates or 0))
            self.scratch.append(scratch_traffic(graph, kernel.node, kernel.scratch))


class Things:
    """One group: what it needs of what was there before, what it leaves, and what is its own.

    Items are numbered as those of its `GroupMemory`. `kept` are allocations that live through, with their
    bytes; `given` those at their last use and `defined` those that are left, each with its item; `inner` the
    items that nobody outside sees.
    """

    def __init__(
        self, table: Table, candidate: Candidate, traffic: Traffic, regions: Sequence[Region]
    ) -> None:
        space = table.space
        self.candidate, self._regions = candidate, regions
        group = space.footprint(candidate).group
        self._group = group
        allocations = space.model.allocations
        self.fetches = in_order(self._fetches(space))
        self.cost = table.cost(candidate) + sum(fetch.least for fetch in self.fetches)
        self.kept = [(a, allocations[a].size) for a in bits(group.live_through) if allocations[a].size]
        items = [item.allocation for item in group.items]
        self.given = [(a, k) for k, a in enumerate(items) if a >= 0 and group.last_used >> a & 1]
        self.defined = [(a, k) for k, a in enumerate(items) if a >= 0 and group.defined >> a & 1]
        outside = {k for _, k in (*self.given, *self.defined)}
        self._own = [k for k in range(len(items)) if self._is_own(k)]
        self.inner = [k for k in range(len(items)) if k not in outside and k not in self._own[1:]]
        self._prices = self._price(space, traffic)
        self.inner_prices = [self._items_price(k) for k in self.inner]
        self.size = [item.size for item in group.items]
        for k in self._own[:1]:  # scratch and constants are in one region
            self.size[k] = sum(item.size for n, item in enumerate(group.items) if n in self._own)
        self._constants: dict[tuple[float, ...], float] = {}  # what they cost at least, by room
        self._fetched: dict[tuple[float, ...], Fetched] = {}  # where they are best, by room
        self._least: dict[int, int] = {}  # bounds by sets of items: quickly known, and all that is known
        self._needs: dict[int, int] = {}

    def _fetches(self, space: Space) -> Iterator[Fetch]:
        """The constants of the group's nodes that may be copied to a region."""
        request, cut = space.request, space.cut(self.candidate)
        for kernel in self._group.kernels:
            node = space.model.kernels[kernel].node
            if node in request.fetchable:
                share = cut.share(kernel) if cut else 1.0
                constants = request.fetchable[node]
                yield fetch_of(node, constants, share, self._regions, request.constants_cost)

    def _is_own(self, item: int) -> bool:
        found = self._group.items[item]
        return found.allocation < 0 and (found.kernel < 0 or found.kind is BufferKind.STAGED)

    def together(self, item: int) -> Sequence[int]:
        """The items that are where an inner item is."""
        return self._own if item in self._own else (item,)

    def _price(self, space: Space, traffic: Traffic) -> dict[int, Bytes]:
        """What the group reads and writes of each allocation."""
        cut = space.cut(self.candidate)
        found: dict[int, Bytes] = {}
        for kernel in self._group.kernels:
            share = cut.share(kernel) if cut else 1.0
            for allocation, count in traffic.kernels[kernel].items():
                found[allocation] = found.get(allocation, Bytes()) + count * share
        outside = ~self._group.inside
        for store in (*self._group.through, *self._group.stores):
            if outside >> store.allocation & 1:  # of what lies in it, all is where it is
                found[store.allocation] = sum((found.get(a, Bytes()) for a in store.allocations), Bytes())
        self._staged = self._of_staged(space)
        self._scratch = {kernel: traffic.scratch[kernel] for kernel in self._group.kernels}
        self._kept = {
            kernel: self._scratch.pop(kernel) + traffic.sums[kernel] for kernel, _ in self._group.keepers
        }
        return found

    def _of_staged(self, space: Space) -> Bytes:
        """What the group reads and writes of constants that are staged."""
        streaming = self._group.streaming
        if streaming is None:
            return Bytes()
        some = (*streaming.resident, *streaming.streamed)
        nodes = [(space.model.kernels[kernel].node, blocks.total) for kernel, blocks in some]
        reads = (staged_traffic(space.request, node, total, 0) for node, total in nodes)
        return sum(reads, Bytes(0.0, streaming.read))

    def of_states(self, memories: Mapping[int, Region | External]) -> float:
        """What the group's accesses to states cost where they are, by allocation."""
        return sum(self._prices[a].cost(memories[a]) for a in memories if a in self._prices)

    def price(self, allocation: int) -> Prices:
        """What the group's accesses to an allocation cost in each region."""
        return self._in_regions(self._prices.get(allocation, Bytes()))

    def _items_price(self, item: int) -> Prices:
        """The same for an item that nobody outside sees; of a store, all that lies in it."""
        group, count = self._group, Bytes()
        if item < len(group.stores):
            for allocation in group.stores[item].allocations:
                count += self._prices.get(allocation, Bytes())
        elif item not in self._own:
            count = self._kept[group.items[item].kernel]
        else:
            count = sum(self._scratch.values(), Bytes())
            count += self._staged
        return self._in_regions(count)

    def _in_regions(self, count: Bytes) -> Prices:
        return tuple(count.cost(region) for region in self._regions)

    def fits(self, members: int, room: float) -> bool:
        """True if a region with so much room, beside what lives through, holds a set of items, a mask; as far
        as bounds can tell."""
        total = sum(size for k, size in enumerate(self.size) if members >> k & 1)
        if total <= room or not members:
            return room >= 0
        if room <= 0 or self._least.get(members, 0) > room:
            return False
        if members not in self._needs:
            part = self._part(members)
            kept = self._group.shared.bytes(self._group.live_through)
            self._least[members] = part.least - kept
            if self._least[members] > room:
                return False
            part.apart = self._pairs(members)
            self._needs[members] = part.tight - kept
        return self._needs[members] <= room

    def need(self, members: int) -> int:
        """Bytes that a region needs for a set of items, a mask, beside what lives through, by bounds."""
        total = sum(size for k, size in enumerate(self.size) if members >> k & 1)
        self.fits(members, total - 1)  # finds out where that is less than all of them
        return min(total, self._needs.get(members, total))

    def least_of_constants(self, room: Sequence[float]) -> float:
        """What constants cost at least beyond the least of each, with so much room for them."""
        if not self.fetches:
            return 0.0
        left = tuple(max(0.0, there) for there in room)
        if left not in self._constants:
            self._constants[left] = least_extra(self.fetches, left)
        return self._constants[left]

    def fetched(self, room: Sequence[float]) -> Fetched:
        """Where constants are best, with so much room for them in each region."""
        left = tuple(room)
        if left not in self._fetched:
            self._fetched[left] = choose_fetches(self.fetches, left)
        return self._fetched[left]

    def _part(self, members: int) -> Footprint:
        """What a region needs for some items."""
        group = self._group
        own = any(members >> k & 1 for k in self._own)
        some = [k for k in bits(members) if k not in self._own]
        stores = [k for k in some if k < len(group.stores)]
        sums = [k - len(group.stores) for k in some if k >= len(group.stores)]
        return Footprint(Part(group, stores, sums, own=own))

    def _pairs(self, members: int) -> tuple[Apart, ...]:
        """The pairs of some items that may share bytes; a distance does not depend on what else is there."""
        place = {k: n for n, k in enumerate(bits(members))}
        return tuple(
            replace(pair, lower=place[pair.lower], upper=place[pair.upper])
            for pair in self._apart
            if pair.lower in place and pair.upper in place
        )

    @cached_property
    def _apart(self) -> tuple[Apart, ...]:
        return apart(self._group)

    @cached_property
    def held(self) -> list[list[int]]:
        """For some moments, the bytes that each item holds then at least; none where moments tell nothing."""
        group = self._group
        if len(group.kernels) == 1 or group.cut is not None:
            return []
        moments = Footprint(group).at_some_moments().T.tolist()
        own = [self.size[k] if k in self._own[:1] else 0 for k in range(len(moments[0]), len(self.size))]
        return [[*row, *own] for row in moments]

    @cached_property
    def cheapest_inside(self) -> float:
        """What the accesses to inner items cost at least."""
        return sum(min(prices) for prices in self.inner_prices)
