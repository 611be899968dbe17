# SPDX-License-Identifier: Apache-2.0
"""A topological order with the least peak of bytes alive, by search over sets of finished kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush, nsmallest
from itertools import count, pairwise

from mmcc.planner.memory.allocations import MemoryModel, ScheduledKernel, bits

STEPS_OF_STATE = 10  # kernels run for each state that a search may have, at most


@dataclass(frozen=True, slots=True)
class Ordering:
    """Kernels in order, the peak of bytes alive, and what the search proved it cannot be less than."""

    order: tuple[int, ...]
    peak: int
    bound: int
    forced: bool  # there is no other order
    looked_at: int = 0  # kernels run in the search, over all its states


@dataclass(slots=True)
class _State:
    """After the kernels in `done`: bytes alive, the largest peak so far, and how we came here."""

    done: int
    ready: int
    alive: int
    peak: int
    trail: _Trail | None


@dataclass(slots=True)
class _Trail:
    kernel: int
    before: _Trail | None


def best_order(model: MemoryModel, max_states: int = 20_000, beam: int = 32) -> Ordering:
    """The least peak; where that takes more than `max_states` states, the best of a beam and a bound. So it
    is, too, where many kernels can run after each of these: a state takes a step for each.

    Best first on the largest peak so far, so the first complete order is optimal, and the peak of
    every state taken up is a bound. Ties go to the state that is furthest along.
    """
    search = _Search(model)
    tick = count()
    start = search.start()
    heap = [(start.peak, 0, next(tick), start)]
    closed: set[int] = set()
    most_steps = STEPS_OF_STATE * max_states
    while len(closed) < max_states and search.looked_at < most_steps:
        peak, _, _, state = heappop(heap)
        if not state.ready:
            order = _order(state)
            return Ordering(order, peak, peak, _is_forced(model, order), search.looked_at)
        if state.done in closed:
            continue  # reached before, with no larger peak
        closed.add(state.done)
        for after in search.successors(state):
            if after.done not in closed:
                heappush(heap, (after.peak, -after.done.bit_count(), next(tick), after))
    bound = heap[0][0]
    found = search.beam(start, beam, most_steps // max(1, len(model.kernels)))
    return Ordering(_order(found), found.peak, bound, forced=False, looked_at=search.looked_at)


class _Search:
    def __init__(self, model: MemoryModel) -> None:
        self._model, self.looked_at = model, 0
        self._after: list[list[int]] = [[] for _ in model.kernels]
        for k, kernel in enumerate(model.kernels):
            for b in bits(kernel.before):
                self._after[b].append(k)
        # What a kernel adds depends only on which of those have run that share an allocation with it.
        self._sharing = [_sharing(model, kernel) for kernel in model.kernels]
        self._steps: list[dict[int, tuple[int, int]]] = [{} for _ in model.kernels]

    def start(self) -> _State:
        model = self._model
        alive = sum(a.size for a in model.allocations if a.from_start)
        ready = sum(1 << k for k, kernel in enumerate(model.kernels) if not kernel.before)
        kept = sum(a.size for a in model.allocations if a.to_end)  # together after the last kernel
        floor = max((model.floor(kernel) for kernel in model.kernels), default=kept)
        return _State(0, ready, alive, max(alive, kept, floor), None)

    def successors(self, state: _State) -> Iterator[_State]:
        """States one kernel on.

        Where a kernel neither raises the peak nor leaves more alive than before, it is the only one: any
        order that runs it later can run it now and is no worse.
        """
        found: list[_State] = []
        for kernel in bits(state.ready):
            after = self._run(state, kernel)
            if after.peak == state.peak and after.alive <= state.alive:
                yield after
                return
            found.append(after)
        yield from found

    def beam(self, start: _State, width: int, steps: int) -> _State:
        """A complete state from the `width` best of every number of finished kernels, or from fewer where
        these have more than so many successors."""
        level = [start]
        while level[0].ready:
            after: dict[int, _State] = {}
            until = self.looked_at + steps
            for state in level:
                if after and self.looked_at > until:
                    break
                for new in self.successors(state):
                    old = after.get(new.done)
                    if old is None or new.peak < old.peak:
                        after[new.done] = new
            level = nsmallest(width, after.values(), key=lambda s: (s.peak, s.alive, s.done))
        return level[0]

    def _run(self, state: _State, kernel: int) -> _State:
        self.looked_at += 1
        known, shared = self._steps[kernel], state.done & self._sharing[kernel]
        if shared not in known:
            known[shared] = self._model.step(kernel, shared, 0)
        during, more = known[shared]
        during, alive = state.alive + during, state.alive + more
        done = state.done | 1 << kernel
        ready = state.ready & ~(1 << kernel)
        for later in self._after[kernel]:
            if not self._model.kernels[later].before & ~done:
                ready |= 1 << later
        return _State(done, ready, alive, max(state.peak, during), _Trail(kernel, state.trail))


def _sharing(model: MemoryModel, kernel: ScheduledKernel) -> int:
    """The kernels that read or write an allocation of a kernel's, as a bit mask."""
    found = 0
    for index in (*kernel.allocations, *kernel.outputs):
        found |= model.allocations[index].users | model.allocations[index].writers
    return found


def _order(state: _State) -> tuple[int, ...]:
    kernels: list[int] = []
    trail = state.trail
    while trail is not None:
        kernels.append(trail.kernel)
        trail = trail.before
    return tuple(reversed(kernels))


def _is_forced(model: MemoryModel, order: tuple[int, ...]) -> bool:
    """True if each kernel needs the one before it."""
    return all(model.kernels[b].before >> a & 1 for a, b in pairwise(order))
