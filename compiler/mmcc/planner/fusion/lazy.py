# SPDX-License-Identifier: Apache-2.0
"""Best paths of groups, each found when it is asked for, without looking at all groups.

Only for groups that compute nothing twice and stage no constants; `Table` knows these.
"""

from __future__ import annotations

from math import inf

from mmcc.planner.fusion.best_first import (
    MOST_GROUPS,
    SPLIT,
    CheapestSearch,
    FewestSearch,
    FoundPath,
    LeastSearch,
)
from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.listed import list_groups
from mmcc.planner.fusion.paths import Path, Table, single_path
from mmcc.planner.fusion.scalars import NEAR
from mmcc.planner.fusion.space import Space
from mmcc.planner.request import PlanRequest

SOME_GROUPS = 500  # looked at at a glance
WITH_SCALARS = 2_000  # looked at in all layouts where kernels of scalars are like any other
AT_A_LEVEL_AT_FIRST = 100  # as AT_A_LEVEL, until some path is known
GROUPS_OF_KERNEL = 10  # looked at, for each kernel, until then
STRIDE = 1 / 64  # of the level of a path that is to be found soon
MOST_KERNELS = 150  # of a graph in which a path found at first is improved


def soon_found(kernels: int, request: PlanRequest) -> bool:
    """True if a path that is soon found is good enough: of a large graph that is compared with others, all of
    whose groups are more work than they say of it."""
    return request.rough and kernels > MOST_KERNELS


class LazyPaths:
    """The best paths of a space, each found when it is asked for."""

    def __init__(
        self,
        space: Space,
        most: int,
        floor: int = 0,
        *,
        brief: bool = False,
        glance: bool = False,
        layouts: int = 1,
    ) -> None:
        """Paths of groups that need at most `most` bytes; no plan needs less than `floor`.

        A search that is to be `brief` is given up where no path is found soon. At a `glance` one that is
        exact looks at some groups only, and what every kernel alone needs stands if that was not enough.
        So many `layouts` share the groups that are looked at with scalars like any other kernels.
        """
        self.space, self._most, self._floor = space, most, floor
        self._brief, self._glance, self._layouts = brief, glance, layouts
        self.exact = True  # so far, all that was found is the best
        self._least: FoundPath | None = None
        self._scalars_too = False  # that path is the best with all bytes of scalars counted, too
        self._tables: dict[int, Table | None] = {}

    def least(self, most_macs: float, *, exact: bool = True) -> int:
        """The least bytes that the largest group of a path needs, or what no plan is below if that is more;
        one more than `most` if no path was found.

        Nothing is computed twice, so there is no more work than `most_macs`.
        """
        del most_macs
        if self._least is None:
            self._least = self._search_least(exact=exact)
            if not self._brief and not self._glance:
                self._least = self._with_scalars(self._least)
        given = self.space.shared.bytes(self.space.alive(0))  # which no group may touch
        return max(self._least.bytes, given, self._floor) if self._least is not None else self._most + 1

    @property
    def slack(self) -> int:
        """Bytes of scalars (`Scalars`) in what `least` found: other paths are compared without those."""
        if self._least is None or self._scalars_too:
            return 0
        return self._least.bytes - self._counted(self._least)

    @property
    def early(self) -> int:
        """All bytes of scalars: where they run as soon as they can, so many more may be there at a time."""
        return self.space.scalars.bytes

    def within(self, limit: int, most_macs: float) -> Path:
        """The least path, if it is within the limit."""
        del most_macs
        return self._least.path if self._least is not None and self._least.bytes <= limit else ()

    def cheapest(self, limit: int, most_macs: float, most_cost: float = inf) -> Path:
        """The path of least cost, less than `most_cost`, whose groups need at most `limit`; empty if there is
        none, or none is found, or it works too much."""
        found = self._run_cheapest(limit, most_cost)
        path = found.path if found is not None else self.within(limit, most_macs)
        if self.space.request.recompute > 1:
            most = sum(map(self.cost, path)) - SPLIT * len(path) if path else most_cost
            self.exact = True  # among these are all that were looked at before
            cut = self._run_cheapest(limit, most, strips=True)
            works = 0.0 if cut is None else sum(map(self.macs, cut.path))
            self.exact = self.exact and works <= most_macs
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

    def cheaper(self, limit: int, most_cost: float, most: int) -> list[Candidate] | None:
        """Groups within the limit on paths that cost less than `most_cost`, with all their strips; None if
        they are more than `most`, too many to list, or not all are looked at since there are scalars."""
        table = self._listed(limit) if not self.space.scalars.kernels else None
        return None if table is None else table.cheaper(limit, most_cost, most)

    def cost(self, candidate: Candidate) -> float:
        """Predicted work of a group."""
        return self.space.cost(candidate)

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group."""
        return self.space.macs(candidate)

    def _listed(self, most: int) -> Table | None:
        """The groups that need at most `most` bytes in a table, if they are not too many."""
        if most not in self._tables:
            groups = list_groups(self.space, most)
            self._tables[most] = None if groups is None else Table(self.space, most, groups)
        return self._tables[most]

    def _search_least(self, *, exact: bool) -> FoundPath | None:
        """The least path; where the search for it takes too long, one that is nearly as good."""
        first = self._single()
        kernels = len(self.space.model.kernels)
        if exact and not soon_found(kernels, self.space.request):
            search = self._less_than(first, exact=True)
            found = search.run(SOME_GROUPS if self._glance else MOST_GROUPS)
            if found is not None or not search.given_up:
                return found or first  # an exact search that finds a path finds the best
            if self._glance:
                self.exact = False
                return first
        search = self._less_than(first, exact=False)
        found = search.run(GROUPS_OF_KERNEL * kernels, AT_A_LEVEL_AT_FIRST)
        best = not search.given_up if found is None else found.best
        quick = self._brief if found is None else kernels > MOST_KERNELS
        first = found or first
        if not best and not quick and not (first and self._counted(first) <= self._floor):
            search = self._less_than(first, exact=False)
            found = search.run()
            best = not search.given_up if found is None else found.best
        self.exact = self.exact and best
        return found or first

    def _with_scalars(self, found: FoundPath | None) -> FoundPath | None:
        """The least path with all bytes of scalars counted, if that is quickly known, and they are not few
        beside the rest; else the one found."""
        if found is None or self.slack <= NEAR * found.bytes:
            return found
        search = LeastSearch(self.space.with_scalars(), found.bytes - 1, exact=True, floor=self._floor)
        less = search.run(WITH_SCALARS / self._layouts)
        self._scalars_too = not search.given_up if less is None else less.best
        return less or found

    def _single(self) -> FoundPath | None:
        """Every kernel alone, in the order that is known, if that is within the bytes."""
        found = FoundPath(single_path(self.space, self.space.order), best=False)
        return found if self._counted(found) <= self._most else None

    def _less_than(self, first: FoundPath | None, *, exact: bool) -> LeastSearch:
        """A search for a path of less than the first, if there is one, but for bytes of scalars."""
        most = self._most if first is None else self._counted(first) - 1
        search = LeastSearch(self.space, most, exact=exact, floor=self._floor)
        if soon_found(len(self.space.model.kernels), self.space.request):
            search.stride = STRIDE
        return search

    def _counted(self, found: FoundPath) -> int:
        """What the largest group of a path needs, less bytes of scalars."""
        return max(map(self.space.counted, found.path), default=0)

    def _run_cheapest(self, limit: int, most_cost: float, *, strips: bool = False) -> FoundPath | None:
        """The path of least cost, with all bytes of scalars counted in the limit."""
        found = self._search_cheapest(limit, most_cost, strips=strips)
        scalars = self.space.scalars.kernels != 0
        paged = self.space.graph.paged and self.space.request.slow_cycles
        if scalars and (self.space.request.caches or paged):
            self.exact = False  # in caches, or not beside a copy, a group of its own may be dearer
        if scalars and found is not None and found.bytes > limit:  # within it but for scalars
            self.exact = False
            strict = CheapestSearch(self.space, limit, exact=strips, strips=strips, strict=True)
            strict.ceiling = most_cost
            found = strict.run(SOME_GROUPS if self.within(limit, inf) else MOST_GROUPS)
        return found

    def _search_cheapest(self, limit: int, most_cost: float, *, strips: bool) -> FoundPath | None:
        """By a search that is exact, if that does not take too long; with strips there is no other."""
        first = CheapestSearch(self.space, limit, exact=True, strips=strips)
        first.ceiling = most_cost
        found = first.run()
        if found is None and first.given_up and not strips:
            second = CheapestSearch(self.space, limit, exact=False)
            second.ceiling = most_cost
            found = second.run()
        self.exact = self.exact and (found.best if found is not None else not first.given_up)
        return found
