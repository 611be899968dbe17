# SPDX-License-Identifier: Apache-2.0
"""All ways to cut a graph into groups: steps between sets of finished kernels, each with what it needs.

A plan is a path from the empty set to the set of all kernels. Every step adds a group: kernels that all feed
the last one of them. For a chain the sets are its beginnings; branches can be done in any order: more sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Blocks
from mmcc.planner.caches import Caches
from mmcc.planner.cost import NodeCost, figure, node_cost
from mmcc.planner.fusion.alive import Alive
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.figures import FOOTPRINT_OF, GroupFigures
from mmcc.planner.fusion.footprint import Footprint
from mmcc.planner.fusion.group import GroupMemory
from mmcc.planner.fusion.group_timelines import GroupTimelines
from mmcc.planner.fusion.rows import Rows, make_rows
from mmcc.planner.fusion.scalars import Scalars
from mmcc.planner.fusion.schedule import Spans
from mmcc.planner.fusion.sets import sets_of, with_all_before
from mmcc.planner.fusion.shared import Shared, mergeable
from mmcc.planner.fusion.strips import COUNTS, Cut, Strips
from mmcc.planner.memory.allocations import MemoryModel, bits
from mmcc.planner.memory.layout import Layout
from mmcc.planner.paging import copies_of
from mmcc.planner.request import PlanRequest
from mmcc.planner.streaming.blocks import Price, StreamingChoices, WeightStreaming, all_resident

GROUPS_TRIED = 40_000  # groups looked at, about: with more kernels than its square root, groups are shorter
LONGEST = 16  # kernels of a group at least, however many there are
ITERATIONS = (*range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96, 128, 192, 256, 384, 512)
FITTING = 3  # numbers of tile iterations that are looked at from the first on with which a group fits


class Space:
    """The sets, and the groups between them, of one graph under one layout."""

    def __init__(
        self,
        graph: Graph,
        layout: Layout,
        model: MemoryModel,
        order: tuple[int, ...],
        request: PlanRequest,
        spans: Spans | None = None,
    ) -> None:
        self.graph, self.layout, self.request, self._spans = graph, layout, request, spans
        self.model, self.order = model, order
        self.rows: Rows = make_rows(graph, layout, self.model, request, spans)
        self.shared = Shared(self.model, self.rows, request, mergeable(self.model, self.rows))
        self.strips = Strips(graph, self.model, self.rows)
        self._after = [0] * len(self.model.kernels)
        for k, kernel in enumerate(self.model.kernels):
            for b in bits(kernel.before):
                self._after[b] |= 1 << k
        kernels = [*enumerate(self.model.kernels)]  # those that run with no other are single
        self._single = sum(1 << k for k, u in kernels if u.alone or request.runs_backward(u.node))
        self._apart = sum(1 << k for k, u in kernels if u.apart)
        self._ordered = sum(1 << k for k, u in kernels if u.node in request.ordered)
        self._longest = max(LONGEST, GROUPS_TRIED // max(1, len(self.model.kernels))) if request.fuse else 1
        self._tilings = self._constants()
        every, self.sets = sets_of(self.model, order)
        self._every_set, self._shortened = every, False
        self.all = (1 << len(self.model.kernels)) - 1
        self._alive = Alive(self.model)
        self._counted: dict[int, int] = {}
        self._costs: dict[int, float] = {}  # by kernels, of groups without strips and tiles
        self._makers = [sum(1 << maker for maker, _ in kernel.needs) for kernel in self.rows.kernels]
        cut = (k for k, tilings in self._tilings.items() if tilings[0].count > 1)
        self.timelines = GroupTimelines(self.model, self.rows, self.order, self._single, cut)
        self._seen = 0  # groups looked at so far in strips or tiles
        self.figures = GroupFigures(graph, self.shared, order, self.alive, self._footprint, self._floor)
        self.scalars = Scalars(self.model, self.figures.touched, self.alive)
        self._streaming: dict[tuple[tuple[int, int], ...], StreamingChoices] = {}
        self._tiled: dict[tuple[int, int, int, int], tuple[int, StreamingChoices]] = {}

    @property
    def complete(self) -> bool:
        """True if all sets are known, and none of the groups listed so far was too long to grow further."""
        return self._every_set and not self._shortened

    @cached_property
    def costs(self) -> list[NodeCost]:
        """What each kernel costs."""
        nodes = [self.graph.nodes[kernel.node] for kernel in self.model.kernels]
        return [node_cost(self.graph, node, self.request.cost) for node in nodes]

    @cached_property
    def caches(self) -> Caches:
        """What groups cost in caches beside that."""
        return Caches(self.graph, self.layout.aliases, self.request.caches, self._spans)

    @property
    def least_cost(self) -> float:
        """Predicted work that no path is below: every kernel alone, nothing computed twice."""
        return sum(map(self.cost_alone, range(len(self.model.kernels))))

    def cost_alone(self, kernel: int) -> float:
        """Predicted work of a kernel in a group of its own, which takes as few calls as it can."""
        steps, calls = self.rows.alone[kernel].steps, self.shared.calls_alone(kernel)
        return self.costs[kernel].total(steps, calls, 1, 1.0)

    def cost(self, candidate: Candidate) -> float:
        """Predicted work of a group, what it costs in caches, and what it waits for slow memory."""
        if candidate.strips > 1 or candidate.tile or candidate.streaming is not None:
            return self._cost(candidate)
        members = candidate.after & ~candidate.before  # what else there is makes no difference
        if members not in self._costs:
            self._costs[members] = self._cost(candidate)
        return self._costs[members]

    def _cost(self, candidate: Candidate) -> float:
        kernels = bits(candidate.after & ~candidate.before)
        rows = self.rows.kernels if len(kernels) > 1 or candidate.tile else self.rows.alone
        strips, cut, costs = candidate.strips, self.cut(candidate), self.costs
        streaming, iterations = candidate.streaming, dict[int, int]()
        total = figure(self.request.cost, "staged_byte") * streaming.read if streaming else 0.0
        if candidate.tile:
            iterations = self.calls(candidate.last, candidate.tile, kernels)
        for k in kernels:
            share = cut.share(k) if cut else 1.0
            calls = iterations.get(k, self.shared.calls_alone(k) if len(kernels) == 1 else rows[k].steps)
            blocks = streaming.blocks(k) if streaming else 1
            total += costs[k].total(rows[k].steps, calls, strips, share, blocks)
        return total + self._besides(kernels, cut, strips, total)

    def backward_cost(self, kernel: int) -> float:
        """What a kernel alone costs more that goes from its last row to the first, if it need not."""
        return self.costs[kernel].call * (self.rows.alone[kernel].steps - self.shared.calls_alone(kernel))

    def avoidable(self, candidate: Candidate) -> float:
        """The part of a group's cost that it has in caches, and its kernels need not have in others."""
        nodes = [self.model.kernels[k].node for k in bits(candidate.after & ~candidate.before)]
        return self.caches.cost(nodes) - sum(map(self.caches.least, nodes))

    def _besides(self, kernels: Sequence[int], cut: Cut | None, strips: int, work: float) -> float:
        """What a group costs in caches, and what its copies are waited for beside its work."""
        nodes = [self.model.kernels[k].node for k in kernels]
        waits = copies_of(self.graph, nodes).stalls(work, self.request.slow_cycles)
        shares = {node: cut.share(k) for k, node in zip(kernels, nodes, strict=True)} if cut else None
        return waits + (self.caches.cost(nodes, shares, strips) if self.request.caches else 0.0)

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group, those at seams counted again."""
        cut, kernels = self.cut(candidate), bits(candidate.after & ~candidate.before)
        return sum(self.costs[k].macs * (cut.share(k) if cut else 1.0) for k in kernels)

    def with_scalars(self) -> Space:
        """The same groups, with kernels of scalars (`Scalars`) like any other: their bytes count, and they
        run when they like."""
        made = copy(self)
        made.scalars, made._counted = self.scalars.none(), {}
        return made

    def allowed(self, members: int, last: int) -> bool:
        """True if kernels that all feed `last` may run as one group."""
        if members == 1 << last:
            return True
        if members & self._single or not self.request.fuse or members & ~self._feeding[last]:
            return False
        return not any(self.model.kernels[k].apart & members for k in bits(members & self._apart))

    @cached_property
    def _feeding(self) -> list[int]:
        """For each kernel, it and all whose rows it needs: it may wait for others that it does not read."""
        return with_all_before(self.order, self._makers)

    def footprint(self, candidate: Candidate) -> Footprint:
        """What a group holds, and the bytes that it needs at least."""
        before, after, last = candidate.before, candidate.after, candidate.last
        self._look_at(after & ~before)
        return self._footprint(before, after, last, self.cut(candidate), candidate.tile, candidate.streaming)

    @property
    def footprints(self) -> int:
        """Groups looked at so far; a long one counts as several."""
        return self._seen + self.figures.work

    def _look_at(self, members: int) -> None:
        self._seen += 1 + members.bit_count() // FOOTPRINT_OF

    def cut(self, candidate: Candidate) -> Cut | None:
        """The strips of a group."""
        if candidate.strips == 1:
            return None
        return self.strips.cut(candidate.last, candidate.after & ~candidate.before, candidate.strips)

    def counted(self, candidate: Candidate) -> int:
        """What a group needs, less the bytes of scalars that are not counted in comparisons."""
        if not self.scalars.kernels:
            return candidate.least
        return candidate.least - self.scalars.beside(candidate.before, candidate.after, candidate.last)

    def counted_alive(self, done: int, before: int | None = None) -> int:
        """Bytes of what is alive after a set of kernels (see `alive`), less those of scalars that are not
        counted."""
        if done not in self._counted:
            self._counted[done] = self.shared.bytes(self.alive(done, before) & ~self.scalars.allocations)
        return self._counted[done]

    def alive(self, done: int, before: int | None = None) -> int:
        """Allocations that hold something after a set of kernels has run; `before`: see `Alive`."""
        return self._alive.after(done, before)

    def _footprint(
        self,
        before: int,
        after: int,
        last: int,
        cut: Cut | None = None,
        tile: int = 0,
        streaming: WeightStreaming | None = None,
    ) -> Footprint:
        alive, then = self.alive(before), self.alive(after)
        members = after & ~before
        if tile:
            line, drained = self.timelines.tiled(members, last, tile), ()
        else:
            line, drained = self.timelines.line(before, members, last, then)
        return Footprint(GroupMemory(self.shared, line, members, alive, then, drained, cut, streaming))

    def candidates(self, most: int) -> Iterator[Candidate]:
        """Groups that need at most `most` bytes, as far as a bound can tell."""
        small = {done for done in self.sets if self.shared.bytes(self.alive(done)) <= most}
        for after in self.sets:
            for last in bits(after) if after in small else ():
                if not self._after[last] & after:
                    yield from self._ending(after, last, most, small)

    def _ending(self, after: int, last: int, most: int, small: set[int]) -> Iterator[Candidate]:
        """Groups that end in kernel `last` and with the set `after`, each longer one from a shorter one."""
        grown = self._grown if self._every_set else self._grown_in_order
        for members in grown(after, last, most):
            before = after & ~members
            if before not in small:
                continue
            if self._tilings:
                yield from self._staged(before, after, last, most)
            elif (floor := self.figures.floor(before, after, last)) <= most:
                least = self.figures.least(before, after, last)
                yield Candidate(before, after, last, least, 1, floor)

    def _grown(self, after: int, last: int, most: int) -> Iterator[int]:
        """Members of groups, where all sets are known."""
        seen: set[int] = set()
        waiting = [(1 << last, self._makers[last])]
        while waiting:
            members, makers = waiting.pop()
            if self._holds_too_much(members, after, last, most):
                continue
            yield members
            more = makers & after & ~members & ~self._single
            if members & self._single or self._is_longest(members, more):
                continue
            for kernel in bits(more):
                longer = members | 1 << kernel
                if self.model.kernels[kernel].apart & members or longer in seen:
                    continue
                if not self._after[kernel] & after & ~members:
                    seen.add(longer)
                    waiting.append((longer, makers | self._makers[kernel]))

    def _grown_in_order(self, after: int, last: int, most: int) -> Iterator[int]:
        """Members of groups where the sets are the beginnings of the order: what comes last of it. A kernel
        that feeds none of those behind it feeds no longer group either."""
        at = after.bit_count() - 1
        if self.order[at] != last:
            return
        members, makers = 1 << last, self._makers[last]
        while not self._holds_too_much(members, after, last, most):
            yield members
            at -= 1
            kernel = self.order[at] if at >= 0 else last
            more = makers & 1 << kernel & ~members & ~self._single
            if not more or members & self._single or self._is_longest(members, more):
                return
            if self.model.kernels[kernel].apart & members:
                return
            members |= more
            makers |= self._makers[kernel]

    def _holds_too_much(self, members: int, after: int, last: int, most: int) -> bool:
        """True if a group and all longer ones hold rings of more than `most` bytes."""
        return self.request.recompute <= 1 and self.figures.inner(members, after, last) > most

    def _is_longest(self, members: int, more: int) -> bool:
        """True of a group that is not made longer; `more` are kernels that it might have, too."""
        if members.bit_count() < self._longest:
            return False
        self._shortened = self._shortened or bool(more)
        return True

    def _constants(self) -> dict[int, tuple[Blocks, ...]]:
        """By kernel, how its constants can be cut, if they lie in slow memory."""
        if self.request.staging is None:
            return {}
        tilings = self.request.staging.tilings
        return {k: tilings[u.node] for k, u in enumerate(self.model.kernels) if u.node in tilings}

    def _staged(self, before: int, after: int, last: int, most: int) -> Iterator[Candidate]:
        """A group by where its constants are; without a limit, each is read once."""
        kernels, alone_least = bits(after & ~before), self.figures.least(before, after, last)
        tilings = {k: self._tilings[k] for k in kernels if k in self._tilings}
        if alone_least > most:
            return
        rooms = self.request.staging.rooms if self.request.staging is not None else ()
        room = min(most - alone_least, max(rooms, default=most))
        whole = all_resident(tilings)
        if whole is not None and whole.bytes <= room:
            least = alone_least + whole.bytes
            yield Candidate(before, after, last, least, 1, least, 0, whole if tilings else None)
        alone = len(kernels) == 1
        again = self.request.limit is not None
        if (
            not tilings
            or self.figures.drained(before, after, last)
            or not (alone or (again and (rooms or whole is None or whole.bytes > room)))
            or 1 << last & self._single  # in one call, or row by row: never batched
        ):
            return
        steps, fitting = self.rows.kernels[last].steps, set[int]()
        some = [-(-steps // iterations) for iterations in ITERATIONS if iterations <= steps]
        tiles = dict.fromkeys((*some, 1)) if again else (steps,)
        for tile in tiles:
            if len(fitting) == FITTING or (tile == steps and not alone):
                continue
            base, choices = self._in_tiles(before, after, last, tile)
            if base > most:
                continue
            for streaming in choices.within_each([min(size, most - base) for size in rooms or (most,)]):
                if streaming.streamed:
                    fitting.add(tile)
                    least = base + streaming.bytes
                    yield Candidate(before, after, last, least, 1, least, tile, streaming)

    def calls(self, last: int, tile: int, kernels: Sequence[int]) -> dict[int, int]:
        """How often the kernels of a group are called, with `tile` steps of its last one in an iteration."""
        line = self.timelines.tiled(sum(1 << k for k in kernels), last, tile) if tile else None
        return {k: len(np.unique(line.times[k])) if line else 1 for k in kernels}

    def _in_tiles(self, before: int, after: int, last: int, tile: int) -> tuple[int, StreamingChoices]:
        """Bytes of a group in tiles but for its constants, and how it may get these."""
        key = before, after, last, tile
        if key not in self._tiled:
            self._look_at(after & ~before)
            footprint = self._footprint(before, after, last, None, tile)
            tilings = {k: self._tilings[k] for k in footprint.group.kernels if k in self._tilings}
            calls = self.calls(last, tile, footprint.group.kernels)
            same = tuple(calls.items())  # what differs of groups with the same calls is where ports are
            if same not in self._streaming:
                self._streaming[same] = StreamingChoices(tilings, calls, self._price(calls))
            self._tiled[key] = footprint.least, self._streaming[same]
        return self._tiled[key]

    def _price(self, calls: Mapping[int, int]) -> Price:
        block = {
            k: (cost := self.costs[k]).gather + cost.row * self.rows.kernels[k].steps + cost.call * count
            for k, count in calls.items()
        }
        return Price(figure(self.request.cost, "staged_byte"), block)

    def _floor(self, footprint: Footprint) -> int:
        """What a group needs if strips can make its rings as small as they like; `least` if it cannot."""
        return min(footprint.least, footprint.outside) if self._may_be_cut(footprint) else footprint.least

    def _may_be_cut(self, footprint: Footprint) -> bool:
        """True if a group may run in strips."""
        group, members = footprint.group, sum(1 << k for k in footprint.group.kernels)
        if self.request.recompute <= 1 or group.drained or members & self._ordered:
            return False
        return self.strips.allowed(members, group.line.last, group.inside, group.defined)

    def narrow(self, candidate: Candidate) -> Iterator[Candidate]:
        """A group's candidates in strips; in more of them as long as that saves bytes of what the group needs
        at all moments. That is found only where `least`, and all that the group holds, do not tell."""
        whole = self.footprint(candidate)
        if not self._may_be_cut(whole):
            return
        most = least = whole.outside + sum(item.size for item in whole.group.items)
        for count in COUNTS:
            narrow = replace(candidate, strips=count, least=candidate.floor)
            if self.cut(narrow) is None:
                return
            needs = self.footprint(narrow).least
            if least == most and candidate.least <= needs < most:
                least = self.figures.tight(candidate.before, candidate.after, candidate.last)
            if needs < least:
                least = needs
                yield replace(narrow, least=needs)
