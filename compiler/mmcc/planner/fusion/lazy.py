# SPDX-License-Identifier: Apache-2.0
"""Best paths of groups, found without looking at all groups.

Sets of finished kernels are taken up best first, those that are furthest along before others as good, and
from each the smallest groups first. Where kernels may run alone, hardly anything else is looked at.

Only for groups that compute nothing twice and stage no constants; `Table` knows these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count, islice
from math import inf

from mmcc.planner.fusion.group_timelines import WINDOW
from mmcc.planner.fusion.paths import Path, Table
from mmcc.planner.fusion.space import Candidate, Space
from mmcc.planner.memory.allocations import bits

AT_A_LEVEL = 1_500  # groups looked at before a search that need not be exact takes what is nearly as good
AT_A_LEVEL_AT_FIRST = 100  # the same until some path is known
GROUPS_OF_KERNEL = 10  # looked at, for each kernel, until then
MOST_GROUPS = 8_000  # looked at in one search
MOST_KERNELS = 150  # of a graph in which a path found at first is improved
SPLIT = 1e-3  # instructions that one more group may cost
MOST_LISTED = 4_000  # groups that are listed


@dataclass(slots=True)
class _Step:
    """A group that may be taken: `exact` if all its moments were looked at."""

    worth: float  # of the path up to its end
    group: Candidate
    exact: bool


@dataclass(slots=True)
class _Choices:
    """A set of finished kernels, and what may run next, the smallest groups first."""

    worth: float
    done: int
    lasts: list[tuple[int, int]]  # members, last kernel; the next is at the end


@dataclass(frozen=True, slots=True)
class FoundPath:
    """Groups with the bytes that each needs; `best` if no path is better, `looked_at` groups on the way."""

    path: tuple[Candidate, ...]
    best: bool
    looked_at: int

    @property
    def bytes(self) -> int:
        """Of the largest group."""
        return max((c.least for c in self.path), default=0)


class _Search(ABC):
    """Best first over sets of finished kernels, within some bytes."""

    def __init__(
        self, space: Space, limit: int, *, exact: bool, strips: bool = False, floor: int = 0
    ) -> None:
        """With `strips`, groups that need too much may be cut into column strips. What is worth less than
        `floor` is as good as what is worth that."""
        self._space, self._limit, self._exact, self._strips = space, limit, exact, strips
        self.ceiling = inf  # only paths that are worth less are looked for
        self._feeds = feeds_of(space)
        self._long: list[list[int]] = [[] for _ in self._feeds]
        self._tick = count()
        self._heap: list[tuple[float, int, int, _Step | _Choices]] = []
        self._level, self._skipped = float(floor), False
        self._came: dict[int, _Step] = {}

    @abstractmethod
    def worth(self, before: float, group: Candidate) -> float:
        """What a path is worth with one more group; less is better."""

    @abstractmethod
    def ahead(self, done: int) -> float:
        """What is at least still to come after a set, if that is added to the worth."""

    def run(self, most_groups: int = MOST_GROUPS, patience: int = AT_A_LEVEL) -> FoundPath | None:
        """The best path; None if there is none within the limit, or none was found among `most_groups`.

        A search that need not be exact looks at `patience` groups before it takes what is nearly as good.
        """
        self._take_up(self.start(), 0)
        looked_at = level = 0
        while self._heap and looked_at <= most_groups:
            if level > patience and not self._exact:
                self._raise()
                level = 0
            _, _, _, item = heappop(self._heap)
            if isinstance(item, _Choices):
                took = self._advance(item)
                looked_at, level = looked_at + took, level + took
                if item.lasts:
                    self._push(item.worth, item.done, item)
            elif item.group.after not in self._came:
                if not item.exact:
                    self._refine(item)
                else:
                    self._came[item.group.after] = item
                    if item.group.after == self._space.all:
                        return FoundPath(self._path(item), not self._skipped, looked_at)
                    self._take_up(item.worth, item.group.after)
        return None

    @property
    def given_up(self) -> bool:
        """True if what was not looked at may be better."""
        return bool(self._heap) or self._skipped

    def start(self) -> float:
        """The worth before the first group."""
        return 0.0

    def _raise(self) -> None:
        """Go on as if what is worst by so little were as good as the best."""
        worse = [key for key, _, _, _ in self._heap if key > self._level]
        if worse:
            self._level, self._skipped = min(worse), True
            self._heap = [(max(key, self._level), depth, tick, item) for key, depth, tick, item in self._heap]
            heapify(self._heap)

    def order(self, members: int, last: int) -> tuple[int, int]:
        """Of what may run next, the largest is looked at first."""
        return -members.bit_count(), last

    def _take_up(self, worth: float, done: int) -> None:
        if not self._exact and (free := self._free(worth, done)) is not None:
            self._push(free.worth, free.group.after, free)
            return
        lasts = [(feeds & ~done, last) for last, feeds in enumerate(self._feeds) if not done >> last & 1]
        lasts.sort(key=lambda pair: self.order(*pair))
        if lasts:
            self._push(worth, done, _Choices(worth, done, lasts))

    def _free(self, worth: float, done: int) -> _Step | None:
        """A kernel that can run alone, makes nothing worse, and leaves no more bytes alive."""
        space = self._space
        alive = space.shared.bytes(space.alive(done))
        for last, kernel in enumerate(space.model.kernels):
            after = done | 1 << last
            if after == done or kernel.before & ~done or space.shared.bytes(space.alive(after)) > alive:
                continue
            group = Candidate(done, after, last, space.tight(done, after, last))
            step = _Step(self.worth(worth, group), group, exact=True)
            same = step.worth + self.ahead(after) <= (worth + self.ahead(done)) * (1 + 1e-9)
            if group.least <= self._limit and same:
                self._skipped = True
                return step
        return None

    def _advance(self, choices: _Choices) -> bool:
        """Look at the next group from a set; True if that took long."""
        space, (members, last) = self._space, choices.lasts.pop()
        after = choices.done | members
        if after in self._came or any(not long & ~members for long in self._long[last]):
            return False
        if not space.allowed(members, last) or space.shared.bytes(space.alive(after)) > self._limit:
            return False
        if not self._strips and (long := self._too_long(after, members, last)):
            self._long[last].append(long)
            return True
        least = space.least(choices.done, after, last)
        group = Candidate(choices.done, after, last, least, 1, least)
        if least <= self._limit:
            self._offer(choices, group)
        elif self._strips and self._worth_cutting(choices, group):
            wide = replace(group, floor=space.floor(space.footprint(group), choices.done, after, last))
            narrow = next((c for c in space.narrow(wide) if c.least <= self._limit), None)
            if narrow is not None:
                self._offer(choices, narrow)
        return True

    def _too_long(self, after: int, members: int, last: int) -> int:
        """The nearest kernels of a group whose rings need too much, if any: a longer one holds these too."""
        size = WINDOW
        while True:
            near = self._space.timelines.nearest(last, members, size)
            if self._space.inner(near, after, last) > self._limit:
                return near
            if near == members:
                return 0
            size *= 2

    def _worth_cutting(self, choices: _Choices, group: Candidate) -> bool:
        """False if a group costs too much even where nothing is computed twice."""
        worth = self.worth(choices.worth, group)
        return worth + self.ahead(group.after) < self.ceiling

    def _offer(self, choices: _Choices, group: Candidate) -> None:
        step = _Step(0.0, group, exact=False)
        step.worth = self.worth(choices.worth, group)
        self._push(step.worth, group.after, step)

    def _refine(self, step: _Step) -> None:
        """Look at all moments of a group."""
        group = step.group
        if group.strips > 1:
            tight = self._space.footprint(group).tight
        else:
            tight = self._space.tight(group.before, group.after, group.last)
        group = replace(group, least=tight)
        if group.least <= self._limit:
            before = self._came[group.before].worth if group.before else self.start()
            exact = _Step(self.worth(before, group), group, exact=True)
            self._push(exact.worth, group.after, exact)

    def _push(self, worth: float, done: int, item: _Step | _Choices) -> None:
        key = max(worth + self.ahead(done), self._level)
        if key >= self.ceiling:
            return
        heappush(self._heap, (key, -done.bit_count(), next(self._tick), item))

    def _path(self, step: _Step) -> tuple[Candidate, ...]:
        found: list[Candidate] = []
        while True:
            found.append(step.group)
            if not step.group.before:
                return tuple(reversed(found))
            step = self._came[step.group.before]


class LeastSearch(_Search):
    """The path whose largest group needs the fewest bytes."""

    def worth(self, before: float, group: Candidate) -> float:
        return max(before, group.least)

    def ahead(self, done: int) -> float:
        return 0.0

    def start(self) -> float:
        return self._space.shared.bytes(self._space.alive(0))


class FewestSearch(LeastSearch):
    """The same with the largest groups first: fewer tensors are whole, and these are easily placed."""

    def order(self, members: int, last: int) -> tuple[int, int]:
        return members.bit_count(), -last


class CheapestSearch(_Search):
    """The path of least predicted cost; of several one of many small groups, as these are easily placed."""

    def __init__(self, space: Space, limit: int, *, exact: bool, strips: bool = False) -> None:
        super().__init__(space, limit, exact=exact, strips=strips)
        kernels, rows = range(len(space.model.kernels)), space.rows.alone
        beyond = [space.caches.least(kernel.node) for kernel in space.model.kernels]
        self._alone = [space.costs[k].total(rows[k].steps, 1, 1, 1.0) + beyond[k] - SPLIT for k in kernels]
        self._ahead: dict[int, float] = {}

    def worth(self, before: float, group: Candidate) -> float:
        return before + self._space.cost(group) - SPLIT

    def ahead(self, done: int) -> float:
        """A kernel's work costs least in a group of its own; in caches it costs what it does in any."""
        if done not in self._ahead:
            self._ahead[done] = sum(cost for k, cost in enumerate(self._alone) if not done >> k & 1)
        return self._ahead[done]


def feeds_of(space: Space) -> list[int]:
    """For each kernel, it and all that must have run before it."""
    found = [1 << k for k in range(len(space.model.kernels))]
    for k in space.order:
        for maker in bits(space.model.kernels[k].before):
            found[k] |= found[maker]
    return found


class LazyPaths:
    """The best paths of a space, each found when it is asked for."""

    def __init__(self, space: Space, most: int, floor: int = 0, *, brief: bool = False) -> None:
        """Paths of groups that need at most `most` bytes; no plan needs less than `floor`.

        A search that is to be `brief` is given up where no path is found soon.
        """
        self.space, self._most, self._floor, self._brief = space, most, floor, brief
        self.exact = True  # so far, all that was found is the best
        self._least: FoundPath | None = None
        self._tables: dict[int, Table | None] = {}

    def least(self, most_macs: float, *, exact: bool = True) -> int:
        """The least bytes that the largest group of a path needs, or what no plan is below if that is more;
        one more than `most` if no path was found.

        Nothing is computed twice, so there is no more work than `most_macs`.
        """
        del most_macs
        if self._least is None:
            self._least = self._search_least(exact=exact)
        return max(self._least.bytes, self._floor) if self._least is not None else self._most + 1

    def within(self, limit: int, most_macs: float) -> Path:
        """The least path, if it is within the limit."""
        del most_macs
        return self._least.path if self._least is not None and self._least.bytes <= limit else ()

    def cheapest(self, limit: int, most_macs: float) -> Path:
        """The path of least cost whose groups need at most `limit`; empty if there is none, or none is found,
        or it works too much."""
        found = self._run_cheapest(limit)
        path = found.path if found is not None else self.within(limit, most_macs)
        if self.space.request.recompute > 1:
            narrow = CheapestSearch(self.space, limit, exact=True, strips=True)
            narrow.ceiling = sum(map(self.cost, path)) - SPLIT * len(path) if path else inf
            cut = narrow.run()
            works = 0.0 if cut is None else sum(map(self.macs, cut.path))
            self.exact = works <= most_macs and (cut is not None or not narrow.given_up)
            path = cut.path if cut is not None and works <= most_macs else path
        return path if sum(map(self.macs, path)) <= most_macs else ()

    def fewest(self, limit: int) -> Path:
        """A path of few groups that need at most `limit`; empty if none is found."""
        found = FewestSearch(self.space, limit, exact=True).run()
        return found.path if found is not None else ()

    def below(self, most: int) -> list[Candidate] | None:
        """Groups that need less than `most`, on paths of such groups; None if they are too many to list."""
        table = self._listed(most - 1)
        return None if table is None else table.below(most)

    def cheaper(self, limit: int, most_cost: float) -> list[Candidate] | None:
        """Groups within the limit on paths that cost less than `most_cost`; None if they are too many."""
        table = self._listed(limit)
        return None if table is None else table.cheaper(limit, most_cost)

    def cost(self, candidate: Candidate) -> float:
        """Predicted instructions of a group."""
        return self.space.cost(candidate)

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group."""
        return self.space.macs(candidate)

    def _listed(self, most: int) -> Table | None:
        """The groups that need at most `most` bytes in a table, if they are not too many."""
        if most not in self._tables:
            groups = list(islice(self.space.candidates(most), MOST_LISTED)) if self.space.complete else []
            every = self.space.complete and len(groups) < MOST_LISTED
            self._tables[most] = Table(self.space, most, groups) if every else None
        return self._tables[most]

    def _search_least(self, *, exact: bool) -> FoundPath | None:
        """The least path; where the search for it takes too long, one that is nearly as good."""
        if exact:
            search = LeastSearch(self.space, self._most, exact=True, floor=self._floor)
            found = search.run()
            self.exact = self.exact and not (found is None and search.given_up)
            if found is not None or not search.given_up:
                return found
        kernels = len(self.space.model.kernels)
        quick = LeastSearch(self.space, self._most, exact=False, floor=self._floor)
        first = quick.run(GROUPS_OF_KERNEL * kernels, AT_A_LEVEL_AT_FIRST)
        if first is None and (self._brief or not quick.given_up):
            self.exact = self.exact and not quick.given_up
            return None
        if first is not None and (first.bytes <= self._floor or kernels > MOST_KERNELS):
            self.exact = self.exact and first.best
            return first
        most = self._most if first is None else first.bytes - 1
        search = LeastSearch(self.space, most, exact=False, floor=self._floor)
        best = search.run()
        if best is None and first is not None:
            best = replace(first, best=not search.given_up)
        self.exact = self.exact and (not search.given_up if best is None else best.best)
        return best

    def _run_cheapest(self, limit: int) -> FoundPath | None:
        """By a search that is exact, if that does not take too long."""
        first = CheapestSearch(self.space, limit, exact=True)
        found = first.run()
        if found is None and first.given_up:
            found = CheapestSearch(self.space, limit, exact=False).run()
        self.exact = self.exact and (found.best if found is not None else not first.given_up)
        return found
