# SPDX-License-Identifier: Apache-2.0
"""In which regions states are: choices, and which of them is best beside what the rest of a plan needs.

A state has its bytes in all steps of all entries, so what it takes of a region is gone for the rest of the
plan, and which states are there does not matter to that: only how many bytes they have. Of the choices that
leave the same bytes of every region the one is looked at whose accesses cost least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count as numbers
from math import inf
from typing import TypeVar

from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.regions import Region, states_in
from mmcc.ir.state import State
from mmcc.ir.traits import Alias
from mmcc.planner.regions.traffic import Bytes, node_traffic
from mmcc.planner.request import KeptTogether, PlanRequest
from mmcc.planner.states import state_align

MOST_CHOICES = 1024  # kept of those for some states; of others, what they cost at least
LOOKED_AT = 64  # sets of choices that are looked at, to find the best
MOST_PLANNED = 4  # choices that a plan is searched for, where one is found

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Choice:
    """A region for each of some things kept together.

    `bytes` are those of each region; accesses cost at least `cost`, of which `besides` are those of other
    entries.
    """

    homes: tuple[int, ...]
    bytes: tuple[int, ...]
    cost: float
    besides: float

    def taken(self, regions: Sequence[Region]) -> tuple[int, ...]:
        """Bytes that the memories for states are large."""
        return tuple(map(rounded, self.bytes, regions))


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices that are looked at, and what the accesses of all others cost at least."""

    some: tuple[Choice, ...]
    others: float


def rounded(size: int, region: Region) -> int:
    """Bytes as a multiple of a region's alignment."""
    return -(-size // region.align) * region.align


def kept_apart(states: Iterable[State], align: int) -> tuple[KeptTogether, ...]:
    """Each state by itself, as a graph alone has them."""
    return tuple(KeptTogether((state.begin,), _bytes(state, align)) for state in states)


def kept_by(
    module: Module, requests: Mapping[str, PlanRequest], planned: str, align: int
) -> Iterable[KeptTogether]:
    """The states of a module for the entry that is planned. Parameters lie together: they are saved as one
    block."""
    others = [entry for entry in module.entries if entry.name != planned]
    traffic: dict[str, Bytes] = {}
    for entry in others:
        for begin, read in state_traffic(entry.graph, requests[entry.name]).items():
            traffic[begin] = traffic.get(begin, Bytes()) + read
    apart = [(state,) for state in module.states if state.begin not in module.parameters]
    together = tuple(state for state in module.states if state.begin in module.parameters)
    widest = max((state_align(state, align) for state in module.states), default=1)
    for some in (*([together] if together else []), *apart):
        begins = tuple(state.begin for state in some)
        size = sum(_bytes(state, align) for state in some)
        if some is together:  # what aligns to more may come behind them
            size = -(-size // widest) * widest
        total = sum((traffic.get(begin, Bytes()) for begin in begins), Bytes())
        yield KeptTogether(begins, size, total.read, total.written)


def _bytes(state: State, align: int) -> int:
    own = state_align(state, align)
    return -(-state.initial.nbytes // own) * own


def state_traffic(graph: Graph, request: PlanRequest) -> dict[str, Bytes]:
    """What one call reads and writes of each state, by `begin`, views included."""
    found: dict[str, Bytes] = {}
    for begin, _, count in state_accesses(graph, request):
        found[begin] = found.get(begin, Bytes()) + count
    return found


def state_accesses(graph: Graph, request: PlanRequest) -> Iterator[tuple[str, str, Bytes]]:
    """What each node reads and writes of states and of what may be views of them, if each runs once: the
    state, by `begin`, the tensor, and bytes. Nodes that may be views read nothing. What a state is joined to
    lies in none, unless it is the new value of one."""
    root = {name: state.begin for state in graph.states for name in (state.begin, state.end)}
    for index, node in enumerate(graph.nodes):
        alias = node.op.traits.alias
        if alias is not None:
            seen = [root[name] for name in graph.activations(node) if name in root and alias != Alias.JOIN]
            root = dict.fromkeys(node.outputs, seen[0]) | root if seen else root
            continue
        for name, count in node_traffic(graph, index, request.loads.get(index, 1.0)).items():
            if name in root:
                yield root[name], name, count


def choices(
    kept: Sequence[KeptTogether], traffic: Sequence[Bytes], regions: Sequence[Region], room: Sequence[float]
) -> Choices:
    """The choices that leave different bytes of the regions that have an end, each the cheapest of its kind.

    `traffic` is what the entry that is planned reads and writes of each thing at least.
    """
    outside = [Bytes(each.read, each.written) for each in kept]
    every = [own + besides for own, besides in zip(traffic, outside, strict=True)]
    ahead = [0.0]
    for each in reversed(every):
        ahead.insert(0, ahead[0] + min(each.cost(region) for region in regions))
    total = max(1, sum(each.bytes for each in kept))
    known, others = [Choice((), (0,) * len(regions), 0.0, 0.0)], inf
    for thing, all_, besides, rest in zip(kept, every, outside, ahead[1:], strict=True):
        found: dict[tuple[int, ...], Choice] = {}
        for choice in known:
            for k, region in enumerate(regions):
                taken = tuple(n + thing.bytes * (k == j) for j, n in enumerate(choice.bytes))
                if region.write_cost is None or taken[k] > room[k]:
                    continue
                key = tuple(n if room[j] < inf else 0 for j, n in enumerate(taken))
                cost, elsewhere = choice.cost + all_.cost(region), choice.besides + besides.cost(region)
                if key not in found or cost < found[key].cost:
                    found[key] = Choice((*choice.homes, k), taken, cost, elsewhere)
        known, left_out = _some(list(found.values()), total)
        others = min(others, left_out + rest)
    return Choices(tuple(known), others)


def _some(found: list[Choice], total: int) -> tuple[list[Choice], float]:
    """Of too many choices the cheapest of those that leave about the same bytes, and what the others cost at
    least."""
    share = 2 * MOST_CHOICES
    while len(found) > MOST_CHOICES:
        share //= 2
        kept: dict[tuple[int, ...], Choice] = {}
        for choice in sorted(found, key=lambda choice: choice.cost):
            kept.setdefault(tuple(n * share // total for n in choice.bytes), choice)
        chosen = list(kept.values())
        if len(chosen) <= MOST_CHOICES or share == 1:
            own = {choice.homes for choice in chosen}
            return chosen, min((c.cost for c in found if c.homes not in own), default=inf)
    return found, inf


def memories(
    kept: Sequence[KeptTogether], homes: Sequence[int], regions: Sequence[Region]
) -> dict[str, Region]:
    """The memory of each state, by `begin`."""
    return {
        begin: states_in(regions[home])
        for each, home in zip(kept, homes, strict=True)
        for begin in each.begins
    }


def best_choice(
    some: Choices,
    room: Sequence[float],
    least: float,
    guess: Callable[[Sequence[float]], float],
    placed: Callable[[Choice], tuple[Found | None, float, float]],
    *,
    first: bool = False,
) -> tuple[Found | None, float]:
    """The cheapest plan that was found over all choices, or the `first`; and what no plan costs less than.

    The rest of a plan, without accesses to states, costs `least` at least, wherever states are, and about
    what `guess` says within so much room. `placed` gives the plan that was found for a choice, its cost, and
    what none with it costs less than. Sets of choices are halved, those first that may cost least: what the
    choices of a set take at least is gone for the rest.
    """

    def about(among: Sequence[Choice]) -> float:
        """What plans with one of these choices may cost."""
        left = least_left(among, room)
        return min(choice.cost for choice in among) + guess(left) if min(left) >= 0 else inf

    order = sorted(some.some, key=lambda choice: (choice.bytes, choice.cost))
    if not order:
        return None, some.others + least
    if len(order) == 1 and some.others == inf:
        found, _, lowest = placed(order[0])
        return found, lowest
    number, planned = numbers(), 0
    waiting = [(0.0, next(number), order)]
    best, cost, proved = None, inf, some.others + least
    for _ in range(LOOKED_AT):
        if not waiting or waiting[0][0] >= cost or planned == MOST_PLANNED:
            break
        _, _, among = heappop(waiting)
        if len(among) > 1:
            middle = len(among) // 2
            for part in (among[:middle], among[middle:]):
                heappush(waiting, (about(part), next(number), part))
            continue
        found, total, lowest = placed(among[0])
        proved, planned = min(proved, lowest), planned + 1
        if found is not None and total < cost:
            best, cost = found, total
        if best is not None and first:
            break
    rest = [choice for _, _, among in waiting for choice in among]
    for choice in sorted(rest, key=lambda choice: choice.cost)[: 4 * MOST_PLANNED if best is None else 0]:
        found, total, lowest = placed(choice)
        proved = min(proved, lowest)
        rest.remove(choice)
        if found is not None:
            best = found
            break
    return best, min(proved, min((choice.cost + least for choice in rest), default=inf))


def least_left(among: Sequence[Choice], room: Sequence[float]) -> list[float]:
    """What any of some choices leaves of each region at most."""
    taken = [min(choice.bytes[k] for choice in among) for k in range(len(room))]
    return [there - used for there, used in zip(room, taken, strict=True)]


def any_possible(some: Choices, room: Sequence[float], possible: Callable[[Sequence[float]], bool]) -> bool:
    """False if there is surely no plan with any choice; `possible` is that for the rest of one."""
    waiting = [list(some.some)] if some.others == inf else []
    if not waiting or not some.some:
        return some.others < inf
    for _ in range(LOOKED_AT):
        if not waiting:
            return False
        among = waiting.pop()
        left = least_left(among, room)
        if min(left) < 0 or not possible(left):
            continue
        if len(among) == 1:
            return True
        waiting += [among[: len(among) // 2], among[len(among) // 2 :]]
    return True
