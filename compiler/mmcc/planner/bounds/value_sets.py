# SPDX-License-Identifier: Apache-2.0
"""Sets of finished nodes where moving elements costs nothing, and the groups that lead from one to others.

Of one value that is read in parts (`splits`) a set also has whether its tensor is still there, or copies of
the parts that are still to be read. Then there is a step without nodes: from the tensor to the copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mmcc.planner.bounds.splits import Split
from mmcc.planner.bounds.value_groups import Roles, ValueGroups
from mmcc.planner.bounds.value_rows import ValueRows
from mmcc.planner.memory.allocations import bits


@dataclass(frozen=True, slots=True)
class ValueStep:
    """A group: its nodes (a mask), the last of them, and the set after it. Without nodes, a tensor that is
    read in parts gives way to copies of these."""

    last: int
    members: int
    after: int


class ValueSets:
    """The sets, each with all movements of what it has made, and what is alive after each."""

    def __init__(self, groups: ValueGroups, split: Split | None = None) -> None:
        """`split`: a value of which parts are read."""
        self._groups, self._rows, self._split = groups, groups.rows, split
        count = len(self._rows.reads)
        self.all = (1 << count) - 1
        self._copied = 1 << count  # in a set: parts of the value have copies, its tensor is gone
        self._moved = _movements_after(self._rows)
        self._passed_on = sum(1 << node for node, moves in enumerate(self._moved) if moves)
        self._alive: dict[int, int] = {}
        alone = self._rows.alone
        self._free_nodes = [k for k in range(count) if (self._rows.computing & ~alone) >> k & 1]

    def steps(self, done: int, most: int | None = None) -> Iterator[ValueStep]:
        """What may run next after a set; not groups that are known to need more than `most` inside."""
        for last in range(len(self._rows.reads)):
            if not done >> last & 1:
                members = self._rows.feeds[last] & ~done
                long = most is not None and self._groups.known_too_long(last, members, most)
                if not long and not self._lonely(members):
                    yield from self._ways(done, self._step(done, last, members))
        split = self._split
        if split is None or done & self._copied or not self._exists(done):
            return
        if split.left(done) and not split.whole & ~done:
            yield ValueStep(-1, 0, done | self._copied)

    def _ways(self, done: int, step: ValueStep) -> Iterator[ValueStep]:
        """A group, and the same as the last that has the tensor of which parts are read."""
        yield step
        split = self._split
        if split is None or step.after & self._copied or split.whole & ~step.after:
            return
        left, made = split.left(step.after), step.members >> split.maker & 1 if split.maker >= 0 else 0
        # parts have no node in common, so of a value that a group makes it has a copy of one at most
        if len(left) == 1 if made else left and self._exists(done):
            yield replace(step, after=step.after | self._copied)

    def _step(self, done: int, last: int, members: int) -> ValueStep:
        """A group of some nodes after a set."""
        after = self._closed(done | members, members)
        if after not in self._alive:  # what is alive is the same but for what these nodes make or read
            touched = self._groups.touched(members)
            self._alive[after] = self.alive(done) & ~touched | self._groups.alive(after, touched)
        return ValueStep(last, members, after)

    def _exists(self, done: int) -> bool:
        """True if the value of which parts are read is made."""
        split = self._split
        return split is not None and (split.maker < 0 or bool(done >> split.maker & 1))

    def _closed(self, done: int, new: int) -> int:
        """A set, some nodes of which are `new`, with all movements; where no part is left to be read, there
        are no copies either."""
        after = self._with_movements(done, new)
        if self._split is not None and not self._split.left(after):
            after &= ~self._copied
        return after

    def bytes(self, done: int) -> int:
        """Bytes that must be there after a set."""
        return self._groups.bytes(self.alive(done)) + self._more(done)

    def _more(self, done: int) -> int:
        """Bytes of a tensor of which parts are read, or of their copies, beside the pieces alive."""
        split = self._split
        if split is None or not self._exists(done):
            return 0
        left = split.left(done)
        if not left and not split.whole & ~done:
            return 0
        held = self._groups.bytes(self.alive(done) & split.pieces)
        return max(0, (sum(left) if done & self._copied else split.size) - held)

    def _stays(self, step: ValueStep) -> bool:
        """True if the tensor of which parts are read is there after a group."""
        split = self._split
        if split is None or step.after & self._copied or not self._exists(step.after):
            return False
        return bool(split.left(step.after) or split.whole & ~step.after)

    def _copying(self, done: int, after: int) -> int:
        """Bytes of a tensor of which parts are read, of copies of those left after a set, and of all else
        that is alive. Of a step without nodes one copy may lie where the tensor was."""
        assert self._split is not None
        left = self._split.left(after)
        beside = sum(left) - (max(left) if after & self.all == done & self.all else 0)
        others = self._groups.bytes(self.alive(done) & ~self._split.pieces)
        return others + self._split.size + beside

    def _lonely(self, members: int) -> bool:
        """True if some nodes cannot be one group: one that runs alone is with others."""
        computing = members & self._rows.computing
        return bool(computing & self._rows.alone and computing & (computing - 1))

    def free(self, done: int, most: int) -> ValueStep | None:
        """A node that is free after a set (see `value_bound`) within so many bytes."""
        for node in self._free_nodes:
            if done >> node & 1 or self._rows.before[node] & ~done:
                continue
            if self._split is not None and node == self._split.maker:
                continue  # alone it makes all of its tensor, of which a group may need a few rows
            step = self._step(done, node, 1 << node)
            if self._groups.shrinks(node, self.roles(done, step)) and self.least(done, step) <= most:
                return step
        return None

    def roles(self, done: int, step: ValueStep) -> Roles:
        """What pieces are to a group."""
        alive, then = self.alive(done), self.alive(step.after)
        through, used = alive & then & self._groups.touched(step.members), alive & ~then
        defined, split = then & ~alive, self._split
        if split is not None and self._stays(step):
            if self._exists(done):
                through, used = through | used & split.pieces, used & ~split.pieces
            else:
                defined |= split.pieces
        return Roles(through, used, defined)

    def through(self, done: int, step: ValueStep) -> int:
        """Bytes that are there before, in and after a group."""
        through = self._groups.bytes(self.alive(done) & self.alive(step.after))
        return through + (self._more(step.after) if self._exists(done) else 0)

    def outside(self, done: int, step: ValueStep) -> int:
        """Bytes that are there before a group, or after it: it needs no less."""
        most = max(self.bytes(done), self.bytes(step.after))
        if step.after & ~done & self._copied and self._exists(done):
            most = max(most, self._copying(done, step.after))
        return most

    def least(self, done: int, step: ValueStep) -> int:
        """Bytes that a group needs at least."""
        if not step.members:
            return self.outside(done, step)
        return self.through(done, step) + self._groups.least(step.last, step.members, self.roles(done, step))

    def start(self) -> int:
        """The set before all groups: movements of what is given."""
        given = sum(1 << node for node in self._rows.moves if not self._rows.before[node])
        return self._with_movements(given, given)

    def _with_movements(self, done: int, new: int) -> int:
        """A set with all movements of what it has made, some of which are `new`."""
        waiting = 0
        for node in bits(new & self._passed_on):
            waiting |= self._moved[node]
        while waiting:  # what reads a movement has a larger number
            lowest = waiting & -waiting
            waiting ^= lowest
            node = lowest.bit_length() - 1
            if not done & lowest and not self._rows.before[node] & ~done:
                done |= lowest
                waiting |= self._moved[node]
        return done

    def alive(self, done: int) -> int:
        """Pieces that must exist after a set."""
        if done not in self._alive:
            self._alive[done] = self._groups.alive(done)
        return self._alive[done]


def _movements_after(rows: ValueRows) -> list[int]:
    """By node, the movements (a mask) that read what it makes."""
    found = [0] * len(rows.reads)
    for move in rows.moves:
        for node in bits(rows.before[move]):
            found[node] |= 1 << move
    return found
