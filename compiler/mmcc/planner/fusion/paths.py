# SPDX-License-Identifier: Apache-2.0
"""Groups listed by the set of finished kernels that they lead to, and the best paths through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf
from typing import Protocol

from mmcc.planner.fusion.candidate import Candidate
from mmcc.planner.fusion.space import Space

Path = tuple[Candidate, ...]


class Paths(Protocol):
    """The paths of a space; two ways to find the best of them have this in common."""

    @property
    def space(self) -> Space: ...

    @property
    def exact(self) -> bool:
        """True if what was found so far is the best of all paths of the space."""
        ...

    @property
    def slack(self) -> int:
        """By so many bytes a path that was not looked at may need less than what `least` found."""
        ...

    @property
    def early(self) -> int:
        """By so many bytes a path that was not looked at may be placed within less than all that were."""
        ...

    def least(self, most_macs: float, *, exact: bool = True) -> int:
        """The least bytes that the largest group of a path needs, with so much work at most.

        Without `exact`, one path that is nearly the best will do.
        """
        ...

    def cheapest(self, limit: int, most_macs: float) -> Path:
        """The path of least cost whose groups need at most `limit`; empty if none is found."""
        ...

    def within(self, limit: int, most_macs: float) -> Path:
        """A path whose groups need at most `limit`, if `least` found one."""
        ...

    def fewest(self, limit: int) -> Path:
        """A path of few groups that need at most `limit`; empty if none is found."""
        ...

    def below(self, most: int) -> list[Candidate] | None:
        """Groups that need less than `most`, on paths of such groups; None if they are too many to list."""
        ...

    def cheaper(self, limit: int, most_cost: float, most: int) -> list[Candidate] | None:
        """Groups within the limit on paths that cost less than `most_cost`, with all their strips; None if
        they are more than `most`."""
        ...

    def cost(self, candidate: Candidate) -> float:
        """Predicted work of a group."""
        ...

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group, those at seams counted again."""
        ...


class Table:
    """Candidates by the set they lead to; their bounds get better where that matters."""

    def __init__(self, space: Space, most: int, groups: Iterable[Candidate] | None = None) -> None:
        """`groups` are all that need at most `most` bytes, or all of these on paths, if they are known."""
        self._space, self._most = space, most
        self.space = space
        self._into: dict[int, list[Candidate]] = {}
        self._exact: set[Candidate] = set()
        for candidate in space.candidates(most) if groups is None else groups:
            self._into.setdefault(candidate.after, []).append(candidate)
        self._sets = sorted(self._into, key=lambda done: (done.bit_count(), done))
        self._enough: float = inf  # bytes; only groups that need more are cut into strips
        self._narrowed: dict[tuple[int, int, int], list[Candidate]] = {}  # by ends of a group, its strips
        self._wider: Table | None = None
        if space.request.recompute > 1:
            self._cut_to_strips()

    @property
    def possible(self) -> bool:
        """True if there is a path at all."""
        return bool(self._path(lambda so_far, c: max(so_far, c.least), self._most))

    def _cut_to_strips(self) -> None:
        """Add groups in strips where they may be needed: above what a path needs in any case."""
        path = self._path(lambda so_far, c: max(so_far, c.floor), None)
        if not path:
            return
        self._enough = max(self._space.request.limit or 0, *(c.floor for c in path))
        for found in self._into.values():
            wide = [c for c in found if c.least > self._enough]
            found += [n for c in wide for n in self._narrow(c)]

    def _narrow(self, candidate: Candidate) -> list[Candidate]:
        ends = candidate.before, candidate.after, candidate.last
        if ends not in self._narrowed:
            self._narrowed[ends] = [n for n in self._space.narrow(candidate) if n.least <= self._most]
        return self._narrowed[ends]

    def listed(self, most: int) -> list[Candidate]:
        """Candidates that need at most `most` bytes, on paths of such candidates, smallest sets first. Those
        that any path needs room for are not cut into strips."""
        return self._on_paths([c for k in self._sets for c in self._into[k] if c.least <= most])

    def below(self, most: int) -> list[Candidate]:
        """Candidates that need less than `most`, on paths of such candidates, smallest sets first, with all
        their strips: where rings are smaller, others may find room."""
        if most > self._most + 1:
            return self._wide(most - 1).below(most)
        return self._on_paths(self._with_strips(self.listed(most - 1), most - 1))

    def _wide(self, most: int) -> Table:
        """The table of more groups: those of at most `most` bytes."""
        if self._wider is None or self._wider._most < most:
            self._wider = Table(self._space, most)
        return self._wider

    def _with_strips(
        self, found: list[Candidate], most: int, worth: Callable[[Candidate], bool] = lambda _: True
    ) -> list[Candidate]:
        """Candidates, and strips of at most `most` bytes, and worth it, of those that have none yet."""
        if self._space.request.recompute <= 1:
            return found
        whole = [c for c in found if c.strips == 1 and c.least <= self._enough]
        found = [*found, *(n for c in whole for n in self._narrow(c) if n.least <= most and worth(n))]
        return sorted(found, key=lambda c: (c.after.bit_count(), c.after))

    def _on_paths(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those of them that are on paths of them, from no kernel to all; smallest sets come first."""
        reached = {0}
        for c in candidates:
            if c.before in reached:
                reached.add(c.after)
        left = {self._space.all}
        for c in reversed(candidates):
            if c.after in left:
                left.add(c.before)
        return [c for c in candidates if c.before in reached and c.after in left]

    def cheaper(self, limit: int, most_cost: float, most: int) -> list[Candidate] | None:
        """Candidates within the limit on paths that cost less than `most_cost`, smallest sets first, with
        those in strips that have no need of them; None if they are more than `most`."""
        if limit > self._most:
            return self._wide(limit).cheaper(limit, most_cost, most)
        found = self.listed(limit)
        ahead: dict[int, float] = {0: 0.0}
        for c in found:
            cost = ahead[c.before] + self.cost(c)
            ahead[c.after] = min(ahead.get(c.after, cost), cost)
        behind: dict[int, float] = {self._space.all: 0.0}
        for c in reversed(found):
            cost = behind[c.after] + self.cost(c)
            behind[c.before] = min(behind.get(c.before, cost), cost)

        def worth(c: Candidate) -> bool:
            return ahead[c.before] + self.cost(c) + behind[c.after] < most_cost

        found = list(filter(worth, found))
        if len(found) <= most:
            found = self._with_strips(found, limit, worth)
        # the same path costs more or less by a rounding error, seen from one of its groups or from another
        found = self._on_paths(found)
        return found if len(found) <= most else None

    @property
    def exact(self) -> bool:
        """True if all groups of the space are listed."""
        return self._space.complete

    @property
    def slack(self) -> int:
        """None: all groups are listed."""
        return 0

    @property
    def early(self) -> int:
        """None, too."""
        return 0

    def within(self, limit: int, most_macs: float) -> Path:
        """A path whose groups need at most `limit`."""
        return self.cheapest(limit, most_macs)

    def fewest(self, limit: int) -> Path:
        """A path of few groups that need at most `limit`; empty if there is none."""
        return self._path(lambda so_far, c: so_far + 1, limit)

    def least(self, most_macs: float, *, exact: bool = True) -> int:
        """The least bytes that the largest group of a path needs, with so much work at most."""
        del exact
        while True:
            path = self._path(lambda so_far, c: max(so_far, c.least), None)
            if not path:
                return self._most + 1
            bound = max(c.least for c in path)
            if self._macs(path) > most_macs:
                path, bound = self._least_within(bound, most_macs)
            if not self._refine(path):
                return bound

    def _least_within(self, low: int, most_macs: float) -> tuple[Path, int]:
        """By bisection: the path of least work within so many bytes does more work the fewer they are."""
        levels = sorted({c.least for cs in self._into.values() for c in cs if c.least >= low})
        first, last = 0, len(levels) - 1
        while first < last:
            middle = (first + last) // 2
            path = self._path(lambda so_far, c: so_far + self.macs(c), levels[middle])
            if path and self._macs(path) <= most_macs:
                last = middle
            else:
                first = middle + 1
        return self._path(lambda so_far, c: so_far + self.macs(c), levels[first]), levels[first]

    def _macs(self, path: Path) -> float:
        return sum(map(self.macs, path))

    def cheapest(self, limit: int, most_macs: float) -> Path:
        """The path of least cost whose groups need at most `limit`, or of least work if it works too much."""
        while True:
            path = self._path(lambda so_far, c: so_far + self.cost(c), limit)
            if self._macs(path) > most_macs:
                path = self._path(lambda so_far, c: so_far + self.macs(c), limit)
            if not self._refine(path):
                return path

    def _refine(self, path: Iterable[Candidate]) -> bool:
        """Replace bounds that looked at some moments only by exact ones; True if one has changed."""
        changed = False
        for candidate in list(path):
            if candidate not in self._exact:
                exact = replace(candidate, least=self._space.footprint(candidate).tight)
                others = self._into[candidate.after]
                others[others.index(candidate)] = exact
                self._exact.add(exact)
                strips_help = candidate.floor < exact.least and candidate.least <= self._enough < exact.least
                if candidate.strips == 1 and strips_help:
                    others += self._narrow(exact)  # it seemed to need no strips
                changed = changed or exact.least != candidate.least
        return changed

    def _path(self, worth_of: Callable[[float, Candidate], float], limit: int | None) -> Path:
        """The path of least worth, of groups within the limit; empty if there is none."""
        best: dict[int, tuple[float, Candidate | None]] = {0: (0.0, None)}
        for after in self._sets:
            for candidate in self._into[after]:
                if candidate.before not in best or (limit is not None and candidate.least > limit):
                    continue
                so_far = best[candidate.before][0]
                worth = worth_of(so_far, candidate)
                if after not in best or worth < best[after][0]:
                    best[after] = (worth, candidate)
        path: list[Candidate] = []
        at = self._space.all
        while at:
            if at not in best:
                return ()
            candidate = best[at][1]
            assert candidate is not None
            path.append(candidate)
            at = candidate.before
        return tuple(reversed(path))

    def cost(self, candidate: Candidate) -> float:
        """Predicted work of a group."""
        return self._space.cost(candidate)

    def macs(self, candidate: Candidate) -> float:
        """Multiply-accumulates of a group, those at seams counted again."""
        return self._space.macs(candidate)


def single_path(space: Space, order: Sequence[int]) -> Path:
    """The path on which every kernel is a group, in an order."""
    path: list[Candidate] = []
    done = 0
    for k in order:
        after = done | 1 << k
        path.append(Candidate(done, after, k, space.figures.tight(done, after, k)))
        done = after
    return tuple(path)
