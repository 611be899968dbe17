# SPDX-License-Identifier: Apache-2.0
"""Best-first searches for one path of groups.

Sets of finished kernels are taken up best first, those that are furthest along before others as good, and
from each the smallest groups first. Where kernels may run alone, hardly anything else is looked at.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.listed import EQUAL, Growth
from mmcc.planner.fusion.space import Space

AT_A_LEVEL = 1_500  # groups looked at before a search that need not be exact takes what is nearly as good
MOST_GROUPS = 8_000  # looked at in one search
UNSEEN = 1 / 32  # of that work: a group of which only the cost and the rings were looked at
SPLIT = 1e-3  # of work that one more group may cost


@dataclass(slots=True)
class _Step:
    """A group that may be taken: `exact` if all its moments were looked at, `blind` if none was."""

    worth: float  # of the path up to its end
    group: Candidate
    exact: bool
    blind: bool = False


@dataclass(slots=True)
class _Choices:
    """A set of finished kernels, and what may run next, the smallest groups first."""

    worth: float
    done: int
    lasts: list[int]  # last kernels; the next is at the end


@dataclass(frozen=True, slots=True)
class FoundPath:
    """Groups with the bytes that each needs; `best` if no path is better."""

    path: tuple[Candidate, ...]
    best: bool

    @property
    def bytes(self) -> int:
        """Of the largest group."""
        return max((c.least for c in self.path), default=0)


class _Search(ABC):
    """Best first over sets of finished kernels, within some bytes."""

    blind = False  # True if a group's worth is known, or what it is not below, before its bytes are looked at

    def __init__(
        self,
        space: Space,
        limit: int,
        *,
        exact: bool,
        strips: bool = False,
        floor: int = 0,
        strict: bool = False,
    ) -> None:
        """With `strips`, groups that need too much may be cut into column strips. What is worth less than
        `floor` is as good as what is worth that. Bytes of scalars (`Scalars`) count only if it is `strict`:
        then what is not looked at may be within the limit, too."""
        self._space, self._figures = space, space.figures
        self._limit, self.exact, self._strips, self._strict = limit, exact, strips, strict
        self._budget = space.request.budget
        self.ceiling = inf  # only paths that are worth less are looked for
        self.stride = 0.0  # part of what is worth as much that is added at least before more is looked at
        self._growth = Growth(space, limit)
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

    def run(self, most_groups: float = MOST_GROUPS, patience: float = AT_A_LEVEL) -> FoundPath | None:
        """The best path; None if there is none within the limit, or none was found among `most_groups`.

        A search that need not be exact looks at `patience` groups before it takes what is nearly as good.
        Both are less by the request's budget.
        """
        most, patience = most_groups * self._budget, patience * self._budget
        self._take_up(self.start(), 0)
        looked_at = level = 0.0
        while self._heap and looked_at <= most:
            if level > patience and not self.exact:
                self._raise()
                level = 0
            _, _, _, item = heappop(self._heap)
            if isinstance(item, _Choices):
                took = self._advance(item)
                looked_at, level = looked_at + took, level + took
                if item.lasts:
                    self._push(item.worth, item.done, item)
            elif item.group.after not in self._came:
                if item.blind:
                    took = self._work(item.group)
                    looked_at, level = looked_at + took, level + took
                elif not item.exact:
                    self._refine(item)
                else:
                    self._came[item.group.after] = item
                    if item.group.after == self._space.all:
                        return FoundPath(self._path(item), not self._skipped)
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
        """Go on as if what is worse by little were as good as the best."""
        worse = [key for key, _, _, _ in self._heap if key > self._level]
        if worse:
            self._level = min(max(min(worse), self._level * (1 + self.stride)), max(worse))
            self._skipped = True
            self._heap = [(max(key, self._level), depth, tick, item) for key, depth, tick, item in self._heap]
            heapify(self._heap)

    def order(self, size: int, last: int) -> tuple[int, int]:
        """Of groups of so many kernels that may run next, the largest is looked at first."""
        return -size, last

    def _take_up(self, worth: float, done: int) -> None:
        free = self._scalar(worth, done)
        if free is None and not self.exact:
            free = self._free(worth, done)
        if free is not None:
            self._push(free.worth, free.group.after, free)
            return
        following = self._growth.following(done)
        following.sort(key=lambda pair: self.order(*pair))
        if following:
            self._push(worth, done, _Choices(worth, done, [last for _, last in following]))

    def _scalar(self, worth: float, done: int) -> _Step | None:
        """A scalar that can run alone (`Scalars`)."""
        last = self._space.scalars.ready(done)
        if last is None:
            return None
        after = done | 1 << last
        group = Candidate(done, after, last, self._figures.tight(done, after, last))
        return _Step(self.worth(worth, group), group, exact=True) if self._fits(group) else None

    def _fits(self, group: Candidate) -> bool:
        return (group.least if self._strict else self._space.counted(group)) <= self._limit

    def _free(self, worth: float, done: int) -> _Step | None:
        """A kernel that can run alone, makes nothing worse, and leaves no more bytes alive."""
        space = self._space
        alive = space.shared.bytes(space.alive(done))
        for last, kernel in enumerate(space.model.kernels):
            after = done | 1 << last
            if after == done or kernel.before & ~done or space.shared.bytes(space.alive(after)) > alive:
                continue
            group = Candidate(done, after, last, self._figures.tight(done, after, last))
            step = _Step(self.worth(worth, group), group, exact=True)
            same = step.worth + self.ahead(after) <= (worth + self.ahead(done)) * (1 + 1e-9)
            if self._fits(group) and same:
                self._skipped = True
                return step
        return None

    def _advance(self, choices: _Choices) -> float:
        """Take the next group from a set; the work that took, in groups that are like no other."""
        space, last = self._space, choices.lasts.pop()
        members = self._growth.members(choices.done, last)
        after, known = choices.done | members, self._figures.looked_at
        if after in self._came or self._growth.known_too_long(members, last):
            return 0.0
        if not space.allowed(members, last) or space.counted_alive(after, choices.done) > self._limit:
            return 0.0
        if self._strips or not self._growth.too_long(after, members, last):
            group = Candidate(choices.done, after, last, 0)
            if not self.blind:
                self._look(group)
            else:
                self._offer(group, blind=True)
        looked = self._figures.looked_at > known or (self._strips and not self.blind)
        return 1.0 if looked else UNSEEN if self.blind else EQUAL

    def _work(self, group: Candidate) -> float:
        """Look at a group that was offered blind; the work that took."""
        known = self._figures.looked_at
        self._look(group)
        return 1.0 if self._strips or self._figures.looked_at > known else EQUAL

    def _look(self, group: Candidate) -> None:
        """Offer a group within the limit, or the widest strips of it that are."""
        least = self._figures.least(group.before, group.after, group.last)
        group = replace(group, least=least, floor=least)
        if self._fits(group):
            self._offer(group)
        elif self._strips:
            self._offer_strips(group)

    def _offer_strips(self, group: Candidate) -> None:
        """Offer the widest strips of a group that are within the limit."""
        floor = self._figures.floor(group.before, group.after, group.last)
        every = self._space.narrow(replace(group, floor=floor))
        narrow = next((c for c in every if self._fits(c)), None)
        if narrow is not None:
            self._offer(narrow)

    def _offer(self, group: Candidate, *, blind: bool = False) -> None:
        worth = self.worth(self._before(group), group)
        self._push(worth, group.after, _Step(worth, group, exact=False, blind=blind))

    def _before(self, group: Candidate) -> float:
        """What the path is worth that a group goes on."""
        return self._came[group.before].worth if group.before else self.start()

    def _refine(self, step: _Step) -> None:
        """Look at all moments of a group."""
        group = step.group
        if group.strips > 1:
            tight = self._space.footprint(group).tight
        else:
            tight = self._figures.tight(group.before, group.after, group.last)
        group = replace(group, least=tight)
        if self._fits(group):
            exact = _Step(self.worth(self._before(group), group), group, exact=True)
            self._push(exact.worth, group.after, exact)
        elif self._strips and group.strips == 1:
            self._offer_strips(group)

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
        return max(before, self._space.counted(group))

    def ahead(self, done: int) -> float:
        return 0.0

    def start(self) -> float:
        return self._space.counted_alive(0)


class FewestSearch(LeastSearch):
    """The same with the largest groups first: fewer tensors are whole, and these are easily placed."""

    def order(self, size: int, last: int) -> tuple[int, int]:
        return size, -last


class CheapestSearch(_Search):
    """The path of least predicted cost; of several one of many small groups, as these are easily placed."""

    blind = True

    def __init__(
        self, space: Space, limit: int, *, exact: bool, strips: bool = False, strict: bool = False
    ) -> None:
        super().__init__(space, limit, exact=exact, strips=strips, strict=strict)
        kernels = range(len(space.model.kernels))
        beyond = [space.caches.least(kernel.node) for kernel in space.model.kernels]
        self._alone = [space.cost_alone(k) + beyond[k] - SPLIT for k in kernels]
        self._ahead: dict[int, float] = {}

    def worth(self, before: float, group: Candidate) -> float:
        return before + self._space.cost(group) - SPLIT

    def ahead(self, done: int) -> float:
        """A kernel's work costs least in a group of its own; in caches it costs what it does in any."""
        if done not in self._ahead:
            self._ahead[done] = sum(cost for k, cost in enumerate(self._alone) if not done >> k & 1)
        return self._ahead[done]
