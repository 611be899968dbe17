# SPDX-License-Identifier: Apache-2.0
"""Sets of finished nodes where moving elements costs nothing, and the groups that lead from one to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmcc.planner.bounds.value_groups import Roles, ValueGroups


@dataclass(frozen=True, slots=True)
class ValueStep:
    """A group: its nodes (a mask), the last of them, and the set after it."""

    last: int
    members: int
    after: int


class ValueSets:
    """The sets, each with all movements of what it has made, and what is alive after each."""

    def __init__(self, groups: ValueGroups) -> None:
        self._groups, self._rows = groups, groups.rows
        count = len(self._rows.reads)
        self.all = (1 << count) - 1
        self._moves = sorted(self._rows.moves)
        self._alive: dict[int, int] = {}
        alone = self._rows.alone
        self._free_nodes = [k for k in range(count) if (self._rows.computing & ~alone) >> k & 1]

    def steps(self, done: int) -> Iterator[ValueStep]:
        """What may run next after a set."""
        for last in range(len(self._rows.reads)):
            if not done >> last & 1:
                members = self._rows.feeds[last] & ~done
                if not self._lonely(members):
                    yield ValueStep(last, members, self.closed(done | members))

    def _lonely(self, members: int) -> bool:
        """True if some nodes cannot be one group: one that runs alone is with others."""
        computing = members & self._rows.computing
        return bool(computing & self._rows.alone and computing & (computing - 1))

    def free(self, done: int, most: int) -> ValueStep | None:
        """A node that is free after a set (see `value_bound`) within so many bytes."""
        for node in self._free_nodes:
            if done >> node & 1 or self._rows.before[node] & ~done:
                continue
            step = ValueStep(node, 1 << node, self.closed(done | 1 << node))
            if self._groups.shrinks(node, self.roles(done, step)) and self.least(done, step) <= most:
                return step
        return None

    def roles(self, done: int, step: ValueStep) -> Roles:
        """What pieces are to a group."""
        alive, then = self.alive(done), self.alive(step.after)
        return Roles(alive & then & self._groups.touched(step.members), alive & ~then, then & ~alive)

    def through(self, done: int, step: ValueStep) -> int:
        """Bytes that are there before, in and after a group."""
        return self._groups.bytes(self.alive(done) & self.alive(step.after))

    def outside(self, done: int, step: ValueStep) -> int:
        """Bytes that are there before a group, or after it: it needs no less."""
        before, after = self.alive(done), self.alive(step.after)
        return max(self._groups.bytes(before), self._groups.bytes(after))

    def least(self, done: int, step: ValueStep) -> int:
        """Bytes that a group needs at least."""
        return self.through(done, step) + self._groups.least(step.last, step.members, self.roles(done, step))

    def closed(self, done: int) -> int:
        """A set with all movements of what it has made."""
        for node in sorted(self._rows.moves):
            if not done >> node & 1 and not self._rows.before[node] & ~done:
                done |= 1 << node
        return done

    def alive(self, done: int) -> int:
        """Pieces that must exist after a set."""
        if done not in self._alive:
            self._alive[done] = self._groups.alive(done)
        return self._alive[done]
