# SPDX-License-Identifier: Apache-2.0
"""Decision trees while they are read: nodes and leaves in any order, and the flat tables that they become."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.frontend.problems import bad_model, unsupported
from mmcc.ops.trees import LEAF

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


def below(limit: float) -> float:
    """The highest float32 below one; NaN below -inf, which nothing is."""
    if limit == -math.inf:
        return math.nan
    return float(np.nextafter(np.float32(limit), np.float32(-np.inf)))


@dataclass(slots=True)
class Forest:
    """Nodes with a test `x <= threshold` each, and leaves; in any order."""

    feature: list[int] = field(default_factory=list[int])  # twice, and one more where NaN goes to `yes`
    threshold: list[float] = field(default_factory=list[float])
    yes: list[int] = field(default_factory=list[int])
    no: list[int] = field(default_factory=list[int])
    roots: list[int] = field(default_factory=list[int])
    targets: list[int] = field(default_factory=list[int])
    weights: list[float] = field(default_factory=list[float])

    def add(self, feature: int, threshold: float, yes: int, no: int) -> int:
        """A node or a leaf; its number."""
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.yes.append(yes)
        self.no.append(no)
        return len(self.feature) - 1

    def branch(
        self, node: int, mode: str, at: tuple[int, float], ways: tuple[int, int], missing: bool
    ) -> None:
        """Make `node` a branch on (feature, value) to ways (true, false), whatever the comparison is.

        A float64 is rounded to float32, as an input of float64 is: so an input that equals it still does.
        """
        (feature, value), (yes, no) = at, ways
        if math.isnan(value):
            raise unsupported("a tree's node that compares with what is no number")
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
        less = below(value)
        limit = less if mode in ("BRANCH_LT", "BRANCH_GTE") else value
        if mode in ("BRANCH_GT", "BRANCH_GTE", "BRANCH_NEQ"):
            yes, no, missing = no, yes, not missing and mode != "BRANCH_NEQ"  # NaN equals nothing
        if mode in ("BRANCH_EQ", "BRANCH_NEQ"):  # not above, and then not below
            yes = self.add(2 * feature + (not missing), less, no, yes)
        self.feature[node], self.threshold[node] = 2 * feature + missing, limit
        self.yes[node], self.no[node] = yes, no

    def always_named(self) -> set[int]:
        """Targets that have a score whatever the row is: each leaf of some tree names them."""
        found: set[int] = set()
        for root in self.roots:
            left, seen = [root], {root}
            named: set[int] | None = None
            while left and named != set():
                node = left.pop()
                if self.feature[node] == LEAF:
                    here = {*self.targets[self.yes[node] : self.no[node]]}
                    named = here if named is None else named & here
                    continue
                ways = {self.yes[node], self.no[node]} - seen
                seen |= ways
                left += ways
            found |= named or set()
        return found

    def ordered(self) -> tuple[NDArray[Any], ...]:
        """The tables of `TreeEnsemble`, each node before those that it leads to."""
        order: list[int] = []
        state = [0] * len(self.feature)  # 1: on the way to it, 2: done
        for root in self.roots:
            stack = [(root, False)]
            while stack:
                node, done = stack.pop()
                if done:
                    state[node] = 2
                    order.append(node)
                    continue
                if state[node] == 2:
                    continue
                if state[node] == 1:
                    raise bad_model("MM104", "a node of a tree leads back to itself")
                state[node] = 1
                stack.append((node, True))
                if self.feature[node] != LEAF:
                    ways = (self.no[node], self.yes[node])
                    if any(state[way] == 1 for way in ways):
                        raise bad_model("MM104", "a node of a tree leads back to itself")
                    stack += [(way, False) for way in ways if state[way] == 0]
        order.reverse()
        place = {node: k for k, node in enumerate(order)}
        ends = [self.feature[node] == LEAF for node in order]
        yes, no = (
            [ways[n] if end else place[ways[n]] for n, end in zip(order, ends, strict=True)]
            for ways in (self.yes, self.no)
        )
        return (
            np.array([self.feature[n] for n in order], np.int32),
            np.array([self.threshold[n] for n in order], np.float32),
            np.array(yes, np.int32),
            np.array(no, np.int32),
            np.array([place[root] for root in self.roots], np.int32),
            np.array(self.targets or [0], np.int32),
            np.array(self.weights or [0], np.float32),
        )
