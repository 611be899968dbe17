# SPDX-License-Identifier: Apache-2.0
"""The cheapest path of groups together with the regions of all they hold.

A state is a set of finished kernels and the region of each whole tensor that is alive then. A step adds a
group: it finds what it reads where the state has it, and chooses regions for what it leaves and for what
nobody outside sees. In every region the bytes that the group needs at least (`Things.fits`) must be there.

First all steps are costed as if their inner things always fitted where they cost least: a bound for what
is left from every state. Then the search goes forward, best first, and looks into a group only when the
cheapest path so far goes through it. So the path found is the cheapest, and its cost a bound for all plans:
a placement may fail, but none costs less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import product
from math import inf

from mmcc.ir.regions import External, Region
from mmcc.ir.state import State
from mmcc.planner.fusion.paths import Path, Table
from mmcc.planner.memory.allocations import bits
from mmcc.planner.regions.fetches import Fetch
from mmcc.planner.regions.floors import about, cheapest_floor
from mmcc.planner.regions.inside import MORE_TRIES, TRIES, Inside, choose_inside, least_inside
from mmcc.planner.regions.things import Things, Traffic
from mmcc.planner.regions.traffic import Bytes

MOST_LOOKED_INTO = 24  # groups of which more choices are looked at
MOST_STATES = 96  # of one set of finished kernels; the cheapest so far are kept


@dataclass(frozen=True, slots=True)
class Shift:
    """A whole tensor is copied to another region: before a group runs, or while it does."""

    allocation: int
    target: int
    asynchronous: bool


@dataclass(frozen=True, slots=True)
class Route:
    """A path, where its things are, and what it costs: for each group the regions of allocations that it
    touches or that live through it, regions of its inner items, and what is moved before or meanwhile;
    and the regions to which constants are copied."""

    path: Path
    whole: tuple[dict[int, int], ...]
    inner: tuple[dict[int, int], ...]
    shifts: tuple[Shift | None, ...]
    fetched: tuple[dict[Fetch, int], ...]
    cost: float


Reached = tuple[int, int]  # kernels done, and the regions of allocations, `width` bits each
Memories = Mapping[int, Region | External]  # of states of the model, by allocation
NO_STATES: Memories = {}


@dataclass(frozen=True, slots=True)
class _Step:
    """A group from one state to another; `cost` without what its inner things and constants cost, which is at
    least `inside`."""

    things: Things
    homes: int  # of everything that it touches or that lives through
    after: Reached
    cost: float
    inside: float
    shift: Shift | None = None


class Routes:
    """The states and steps of one table, for regions of any sizes."""

    def __init__(self, table: Table, regions: Sequence[Region], most: int, *, strips: bool) -> None:
        """Groups that need more than `most` bytes in all regions together are left out, and those in column
        strips unless `strips`."""
        self.table, self._regions, self.strips = table, regions, strips
        self.space = table.space
        self._width = max(1, (len(regions) - 1).bit_length())
        traffic = self._traffic = Traffic(self.space)
        self._from: dict[int, list[Things]] = {}
        for candidate in table.listed(most):
            if candidate.strips > 1 and not strips:
                continue
            self._from.setdefault(candidate.before, []).append(Things(table, candidate, traffic, regions))
        self._sizes = [allocation.size for allocation in self.space.model.allocations]
        self.complete = self.space.complete
        self._background = table.space.request.background

    def cheapest(
        self, room: Sequence[float], states: Memories = NO_STATES, *, closely: bool = False
    ) -> tuple[Route | None, float]:
        """The cheapest route if region k has `room[k]` bytes, and what no plan costs less than.

        `states` has the memory of each state, by number of its allocation. With `closely` more is done to
        find the bound: see `best_known`.

        None with an infinite bound: there is no plan; with another, none was found.
        """
        steps, every = self._steps(room, states)
        ahead = self._ahead(steps)
        search = _Search(self, steps, ahead, room)
        by_bound = search.best_known() if closely else search.run(exact=False)
        bound = self._floor(states) if not every else inf if by_bound is None else by_bound[0]
        found = by_bound if by_bound is None or by_bound[2] else search.run(exact=True)
        return (None if found is None else self._route(found[1], found[0])), bound

    def possible(self, room: Sequence[float]) -> bool:
        """False if there is surely no plan in regions of so many bytes."""
        steps, every = self._steps(room, NO_STATES)
        return not every or _Search(self, steps, self._ahead(steps), room).run(exact=False) is not None

    def of_states(self, states: Sequence[State]) -> dict[str, Bytes]:
        """What a call reads and writes of each state at least, by `begin`."""
        number = {allocation.name: k for k, allocation in enumerate(self.space.model.allocations)}
        found: dict[str, Bytes] = {}
        for state in states:
            numbers = {number[name] for name in (state.begin, state.end) if name in number}
            counts = (each.get(a, Bytes()) for each in self._traffic.kernels for a in numbers)
            found[state.begin] = sum(counts, Bytes())
        return found

    def memories_of(self, memories: Mapping[str, Region | External], states: Sequence[State]) -> Memories:
        """The memory of each state, by number of its allocation."""
        home = {name: memories[state.begin] for state in states for name in (state.begin, state.end)}
        some = enumerate(self.space.model.allocations)
        return {k: home[allocation.name] for k, allocation in some if allocation.name in home}

    def home(self, homes: int, allocation: int) -> int:
        """The region of an allocation."""
        return homes >> self._width * allocation & (1 << self._width) - 1

    def inside(self, step: _Step, room: Sequence[float], tries: int = TRIES) -> Inside:
        """Where the inner things of a step's group are best."""
        return choose_inside(step.things, *self._around(step, room), tries)

    def least_inside(self, step: _Step, room: Sequence[float]) -> float:
        """What these cost at least, quickly known."""
        return least_inside(step.things, *self._around(step, room))

    def _around(self, step: _Step, room: Sequence[float]) -> tuple[list[int], list[float]]:
        """For each region the items of a group that are there in any case, and what room others leave."""
        things = step.things
        outside, left = [0] * len(room), list(room)
        for allocation, item in (*things.given, *things.defined):
            outside[self.home(step.homes, allocation)] |= 1 << item
        for allocation, size in things.kept:
            left[self.home(step.homes, allocation)] -= size
        if step.shift is not None and step.shift.asynchronous:
            left[step.shift.target] -= self._sizes[step.shift.allocation]
        return outside, left

    @property
    def end(self) -> int:
        return self.space.all

    def starts(self, room: Sequence[float]) -> Iterator[Reached]:
        """The states before anything runs: inputs are in any region."""
        first = [a for a in bits(self.space.alive(0)) if self._sizes[a]]
        for homes in self._choices(first):
            if self._holds(self.space.alive(0), homes, room):
                yield 0, homes

    def _choices(self, allocations: Sequence[int]) -> Iterator[int]:
        for homes in product(range(len(self._regions)), repeat=len(allocations)):
            yield sum(home << self._width * a for a, home in zip(allocations, homes, strict=True))

    def _holds(self, alive: int, homes: int, room: Sequence[float]) -> bool:
        """True if regions have room for all that is alive between two groups."""
        left = list(room)
        for a in bits(alive):
            if self._sizes[a]:
                left[self.home(homes, a)] -= self._sizes[a]
        return min(left) >= 0

    def _steps(self, room: Sequence[float], memories: Memories) -> tuple[dict[Reached, list[_Step]], bool]:
        """The steps from every state that can be reached; and whether no state was left out."""
        every = self.complete
        reached: dict[int, dict[int, float]] = {0: dict.fromkeys((h for _, h in self.starts(room)), 0.0)}
        steps: dict[Reached, list[_Step]] = {}
        for done in self.space.sets:
            states = reached.get(done, {})
            if len(states) > MOST_STATES:
                every = False
                states = dict(sorted(states.items(), key=lambda item: item[1])[:MOST_STATES])
            for homes, so_far in states.items():
                found = steps[done, homes] = []
                for things in self._from.get(done, ()):
                    for step in self._through(things, homes, room, memories):
                        found.append(step)
                        after = reached.setdefault(step.after[0], {})
                        cost = so_far + step.cost + step.inside
                        after[step.after[1]] = min(after.get(step.after[1], inf), cost)
        return steps, every

    def _through(
        self, things: Things, homes: int, room: Sequence[float], states: Memories
    ) -> Iterator[_Step]:
        """The steps of one group from one state."""
        alive = self.space.alive(things.candidate.after)
        keep = sum((1 << self._width) - 1 << self._width * a for a in bits(alive))
        for shift, copying in self._shifts(things, homes):
            now = then = homes
            if shift is not None:
                then = self._moved(homes, shift)
                now = homes if shift.asynchronous else then
                if now != homes and not self._holds(self.space.alive(things.candidate.before), now, room):
                    continue
            cost = things.cost + copying + things.of_states(states)
            for a, _ in (*things.kept, *things.given):
                cost += things.price(a)[self.home(now, a)]
            for chosen in self._choices([a for a, _ in things.defined]):
                if self._holds(alive, then | chosen, room):
                    there = now | chosen
                    priced = cost + sum(things.price(a)[self.home(there, a)] for a, _ in things.defined)
                    after = things.candidate.after, (then | chosen) & keep
                    inside = things.cheapest_inside + self._constants(things, there, room)
                    yield _Step(things, there, after, priced, inside, shift)

    def _constants(self, things: Things, homes: int, room: Sequence[float]) -> float:
        """What a group's constants cost at least, quickly known: others in a region take bytes."""
        if not things.fetches:
            return 0.0
        left, largest = list(room), [0] * len(room)
        for a, size in things.kept:
            left[self.home(homes, a)] -= size
        for a, item in (*things.given, *things.defined):
            home = self.home(homes, a)
            largest[home] = max(largest[home], things.size[item])
        return things.least_of_constants([there - most for there, most in zip(left, largest, strict=True)])

    def _shifts(self, things: Things, homes: int) -> Iterator[tuple[Shift | None, float]]:
        """What could be moved before a group runs, or meanwhile: at most one tensor; and what that costs.

        A copy that goes on meanwhile costs nothing if the group takes at least as long; it is of what the
        group does not touch.
        """
        yield None, 0.0
        for a in (*(a for a, _ in things.kept), *(a for a, _ in things.given)):
            source = self._regions[self.home(homes, a)]
            for target, region in enumerate(self._regions):
                if region == source or region.write_cost is None:
                    continue
                copying = self._sizes[a] * (source.read_cost + region.write_cost)
                yield Shift(a, target, asynchronous=False), copying
                untouched = not any(things.price(a)) and all(a != other for other, _ in things.given)
                if self._background and untouched and source.dma and region.dma and copying <= things.cost:
                    yield Shift(a, target, asynchronous=True), 0.0

    def _moved(self, homes: int, shift: Shift) -> int:
        """The regions after a move."""
        at = self._width * shift.allocation
        return homes & ~((1 << self._width) - 1 << at) | shift.target << at

    def _ahead(self, steps: dict[Reached, list[_Step]]) -> dict[Reached, float]:
        """What is left to pay from every state at least."""
        ahead: dict[Reached, float] = {}
        for state in reversed(steps):
            if state[0] == self.end:
                ahead[state] = 0.0
                continue
            costs = (step.cost + step.inside + ahead.get(step.after, inf) for step in steps[state])
            ahead[state] = min(costs, default=inf)
        return ahead

    def _floor(self, states: Memories) -> float:
        """What any path costs if every access were where it costs least."""
        return cheapest_floor(self.space.sets, self._from, self.end, states)[0]

    @cached_property
    def _floor_without(self) -> tuple[float, tuple[Things, ...]]:
        """The same without accesses to states, and the path that costs so little."""
        return cheapest_floor(self.space.sets, self._from, self.end, NO_STATES)

    @property
    def floor(self) -> float:
        """What any path costs at least without accesses to states."""
        return self._floor_without[0]

    def about(self, room: Sequence[float]) -> float:
        """What a plan may cost within so much room, accesses to states apart: no bound, but soon known."""
        return about(self._floor_without[1], self._sizes, room)

    def _route(self, steps: Sequence[tuple[_Step, Inside]], cost: float) -> Route:
        whole: list[dict[int, int]] = []
        inner: list[dict[int, int]] = []
        for step, inside in steps:
            things = step.things
            touched = (*things.kept, *things.given, *things.defined)
            whole.append({a: self.home(step.homes, a) for a, _ in touched})
            assert inside.homes is not None
            homes = zip(things.inner, inside.homes, strict=True)
            inner.append({k: home for item, home in homes for k in things.together(item)})
        path = tuple(step.things.candidate for step, _ in steps)
        shifts = tuple(step.shift for step, _ in steps)
        fetched = tuple(self._fetched(step.things, inside) for step, inside in steps)
        return Route(path, tuple(whole), tuple(inner), shifts, fetched, cost)

    def _fetched(self, things: Things, inside: Inside) -> dict[Fetch, int]:
        homes = zip(things.fetches, inside.fetched, strict=True)
        return {fetch: home for fetch, home in homes if home < len(self._regions)}


Found = tuple[float, list[tuple[_Step, Inside]], bool]  # cost, steps, whether every group's cost is exact


class _Search:
    """Best first from the empty set; groups are looked into when they are reached."""

    def __init__(
        self,
        routes: Routes,
        steps: dict[Reached, list[_Step]],
        ahead: dict[Reached, float],
        room: Sequence[float],
    ) -> None:
        self._routes, self._steps, self._ahead, self._room = routes, steps, ahead, room
        self._quick: dict[int, float] = {}  # by id of the step, which `steps` keeps: what inner items cost
        self._inside: dict[int, Inside] = {}

    def best_known(self) -> Found | None:
        """The cheapest path by what groups cost at least; those on it are looked into again, with more
        choices, as long as their costs are not known and that may tell."""
        looked_into = set[int]()
        while (found := self.run(exact=False)) is not None and not found[2]:
            unknown = [step for step, inside in found[1] if inside.cost != inside.bound]
            unknown = [step for step in unknown if id(step) not in looked_into]
            if not unknown or len(looked_into) > MOST_LOOKED_INTO:
                break
            for step in unknown:
                looked_into.add(id(step))
                self._inside[id(step)] = self._routes.inside(step, self._room, MORE_TRIES)
        return found

    def run(self, *, exact: bool) -> Found | None:
        """The cheapest path by what groups cost at least, or if `exact` by what was found for them."""
        number = 0
        waiting: list[tuple[float, int, float, Reached, _Step | None, Reached | None]] = []
        for state in self._routes.starts(self._room):
            if self._ahead.get(state, inf) < inf:
                heappush(waiting, (self._ahead[state], number, 0.0, state, None, None))
                number += 1
        came: dict[Reached, tuple[Reached, _Step] | None] = {}
        while waiting:
            _, _, so_far, state, step, before = heappop(waiting)
            if state in came:
                continue
            if step is not None and id(step) not in self._inside:
                so_far += self._look(step, exact=exact)
                if so_far < inf:
                    entry = (so_far + self._ahead[state], number, so_far, state, step, before)
                    heappush(waiting, entry)
                    number += 1
                continue
            came[state] = (before, step) if before is not None and step is not None else None
            if state[0] == self._routes.end:
                return self._found(came, state, so_far)
            for following in self._steps[state]:
                cost = so_far + following.cost + following.inside
                if id(following) in self._inside:
                    cost += self._more(following, exact=exact)
                elif id(following) in self._quick:
                    cost += self._quick[id(following)] - following.inside
                after = following.after
                ahead = self._ahead.get(after, inf)  # too many states: some were left out
                if cost + ahead < inf and after not in came:
                    entry = (cost + ahead, number, cost, after, following, state)
                    heappush(waiting, entry)
                    number += 1
        return None

    def _look(self, step: _Step, *, exact: bool) -> float:
        """Looks into a group: quickly first, then at its choices. How much more it costs than was known."""
        known = self._quick.get(id(step))
        least = step.inside
        if known is None:
            self._quick[id(step)] = self._routes.least_inside(step, self._room)
            return self._quick[id(step)] - least
        self._inside[id(step)] = self._routes.inside(step, self._room)
        return self._more(step, exact=exact) - (known - least)

    def _more(self, step: _Step, *, exact: bool) -> float:
        """What a group costs beyond the least that its inner things could."""
        inside = self._inside[id(step)]
        return (inside.cost if exact else inside.bound) - step.inside

    def _found(self, came: dict[Reached, tuple[Reached, _Step] | None], state: Reached, cost: float) -> Found:
        steps: list[tuple[_Step, Inside]] = []
        while (arrived := came[state]) is not None:
            state, step = arrived
            steps.append((step, self._inside[id(step)]))
        exact = all(inside.cost == inside.bound for _, inside in steps)
        return cost, steps[::-1], exact
