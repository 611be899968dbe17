# SPDX-License-Identifier: Apache-2.0
"""Bytes that a group of nodes needs in any layout: rows of pieces that must exist at some moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmcc.planner.bounds.pieces import Piece
from mmcc.planner.bounds.value_moments import Moments
from mmcc.planner.bounds.value_rows import PieceRead, ValueRows
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.memory.allocations import bits

MOST_JOINS = 3  # in one group, of which both schedules are looked at
WINDOW = 8  # nodes of the shortest schedules


@dataclass(frozen=True, slots=True)
class Roles:
    """Pieces (masks) that have all their rows before and after a group, only before, or only after."""

    through: int
    last_used: int
    defined: int


class ValueGroups:
    """The groups of a graph of values, each between sets of nodes that have run."""

    def __init__(self, rows: ValueRows, *, strips: bool | None = None) -> None:
        """With `strips` groups may run in column strips; if that is not said, where the request allows it."""
        self.rows = rows
        self._strips = rows.request.recompute > 1 if strips is None else strips
        self.size = [piece.height * piece.line for piece in rows.pieces]
        align = rows.request.align
        self._scratch = {k: -(-size // align) * align for k, size in rows.request.scratch.items()}
        self._moments: dict[tuple[int, int, int, tuple[int, ...], bool], Moments] = {}
        self._least: dict[tuple[int, int, Roles], int] = {}
        self._inner: dict[tuple[int, int], int] = {}
        self._long: dict[tuple[int, int], list[int]] = {}  # by last node and limit, nodes that are too much,
        self._short: dict[tuple[int, int], list[int]] = {}  # and nodes of which no few are
        self._made, self._read = [0] * len(rows.reads), [0] * len(rows.reads)
        for node, reads in enumerate(rows.reads):
            self._made[node] = sum(1 << piece for piece in rows.made[node])
            self._read[node] = sum(1 << read.piece for read in reads)

    @cached_property
    def floor(self) -> int:
        """Bytes that some node needs for itself in whatever group.

        These are the rows that it has asked for and needs at one of its steps, and of what is read after the
        last node the rows made so far.
        """
        return max((self._own(node) for node in bits(self.rows.computing)), default=0)

    def _own(self, node: int) -> int:
        scratch = self._scratch.get(node, 0)
        kept = [self.rows.pieces[piece] for piece in self.rows.made[node] if self.rows.pieces[piece].to_end]
        if self.rows.at_once >> node & 1:
            inputs = sum(
                max(0, int(r.upto[0] - r.low[0])) * self.rows.pieces[r.piece].line
                for r in self.rows.reads[node]
            )
            return scratch + inputs + sum(piece.height * piece.line for piece in kept)
        steps = self.rows.steps(node)
        needed = np.zeros(steps, np.int64)
        for read in self.rows.reads[node]:
            count = min(steps, len(read.upto))
            rows = read.upto[:count] - read.low[:count] - read.elementwise  # that one is written over
            needed[:count] += np.maximum(rows, 0) * self.rows.pieces[read.piece].line
        if self._strips:  # of what only its group sees it may need some columns
            needed[:] = 0
        made = back = np.zeros(steps, np.int64)
        for piece in () if self.rows.takes(node) else kept:
            made = made + piece.among(np.arange(steps)) * piece.line
            back = back + _made_backward(piece, steps, running=False) * piece.line
        most = [int((needed + made).max(initial=0))]
        if self.rows.request.may_run_backward(node):
            most.append(int((needed + back).max(initial=0)))
        return scratch + min(most)

    def shrinks(self, node: int, roles: Roles) -> bool:
        """True if at each step what a node has still to make is no more bytes than what dies when read."""
        steps = self.rows.steps(node)
        left, made = np.zeros(steps + 1, np.int64), np.arange(steps + 1)
        for piece in self.rows.made[node]:
            own = self.rows.pieces[piece]
            rows = np.where(made < steps, own.height, 0)
            rows = rows if self.rows.takes(node) else own.height - own.among(made)
            left += rows * own.line
        dying = np.zeros(steps + 1, np.int64)
        for read in self.rows.reads[node]:
            if roles.last_used >> read.piece & 1:
                own = self.rows.pieces[read.piece]
                low = np.append(read.low[:steps], np.full(max(0, steps - len(read.low)), own.height))
                dying += (own.height - np.append(low, own.height)[: steps + 1]) * own.line
        return bool((left <= dying).all())

    def alive(self, done: int, among: int | None = None) -> int:
        """Pieces, `among` some or of all, that must exist once the nodes in `done` have run."""
        mask = 0
        for number in range(len(self.rows.pieces)) if among is None else bits(among):
            piece = self.rows.pieces[number]
            begun = piece.maker < 0 or done >> piece.maker & 1
            if begun and (piece.to_end or self.rows.readers[number] & ~done):
                mask |= 1 << number
        return mask

    def bytes(self, pieces: int) -> int:
        """All rows of some pieces."""
        return sum(self.size[piece] for piece in bits(pieces))

    def touched(self, members: int) -> int:
        """Pieces that some nodes make or read."""
        mask = 0
        for node in bits(members & self.rows.computing):
            mask |= self._made[node] | self._read[node]
        return mask

    def known_too_long(self, last: int, members: int, most: int) -> bool:
        """True if `too_long` found that of a group with the same last node that has no more nodes."""
        return any(not long & ~members for long in self._long.get((last, most), ()))

    def too_long(self, last: int, members: int, most: int) -> bool:
        """True if what is inside of members near to `last` needs more than `most`.

        A group with more nodes before these holds that, too. In strips what is inside may need any little.
        """
        if self._strips:
            return False
        if self.known_too_long(last, members, most):
            return True
        short = self._short.setdefault((last, most), [])
        if any(not members & ~more for more in short):
            return False
        long = self._too_long(last, members, most)
        if long:
            self._long.setdefault((last, most), []).append(long)
        elif not self._many(last, members):
            # some of the nodes have no more schedules than all, but where there are too many joins
            short.append(members)
        return bool(long)

    def _too_long(self, last: int, members: int, most: int) -> int:
        """The nearest members to `last` of which what is inside needs too much; 0 if there are none."""
        nodes, size = bits(members), WINDOW
        while True:
            near = sum(1 << k for k in nodes[-size:])
            if self._inside_at_most(last, near) > most:
                return near
            if size >= len(nodes):
                return 0
            size *= 2

    def _inside_at_most(self, last: int, members: int) -> int:
        """Most bytes at one time of pieces that only some nodes that feed `last` see."""
        if (last, members) not in self._inner:
            self._inner[last, members] = self._inside_of(last, members)
        return self._inner[last, members]

    def _inside_of(self, last: int, members: int) -> int:
        inside = bits(self._inside(members))
        if not inside:
            return 0
        schedules = self._schedules(last, members)
        most = min(int(np.sum([s.inside(piece) for piece in inside], axis=0).max()) for s in schedules)
        return max(most, self._early(last, members, 0))

    def _early(self, last: int, members: int, last_used: int) -> int:
        """Bytes of a group with too many joins before some of its nodes, which have few themselves.

        Up to a step of such a node, what is seen only by nodes that feed it comes in an order of its own.
        """
        if not self._many(last, members):
            return 0
        whole = self._schedule(last, members, 0, by_last=True)
        longest: dict[int, tuple[int, int]] = {}  # by joins: the most members, and the node they feed
        for node in bits(members & self.rows.computing & ~(1 << last)):
            some = members & self.rows.feeds[node]
            joins = (some & self.rows.uneven).bit_count()
            if joins <= MOST_JOINS and some.bit_count() > longest.get(joins, (0, 0))[0].bit_count():
                longest[joins] = some, node
        most = 0
        for some, node in longest.values():
            steps = len(whole.line.of(node))  # that anybody asks for
            pieces = bits(self._inside(some))
            given = [
                piece
                for piece in bits(last_used & self.touched(some))
                if not self.rows.readers[piece] & members & ~some
            ]
            found: list[int] = []
            for moments in self._schedules(node, some) if steps and (pieces or given) else ():
                total = sum((moments.inside(piece) for piece in pieces), np.zeros(len(moments.at), np.int64))
                total = sum((moments.last_used(piece, some) for piece in given), total)
                found.append(int(total[moments.at <= moments.line.of(node)[steps - 1]].max(initial=0)))
            most = max(most, min(found, default=0))
        return most

    def _many(self, last: int, members: int, drained: tuple[int, ...] = ()) -> bool:
        """True if a group has joins in more ways than are looked at."""
        uneven = (members & self.rows.uneven & ~(1 << last)).bit_count()
        return uneven > MOST_JOINS or (uneven > 0 and len(drained) > 0)

    def least(self, last: int, members: int, roles: Roles) -> int:
        """Bytes that a group needs at least, but for pieces that have all their rows before and after it."""
        key = (last, members, roles)
        if key not in self._least:
            self._least[key] = self._bound(last, members, roles)
        return self._least[key]

    def _inside(self, members: int) -> int:
        """Pieces made and read by some nodes, and by no others."""
        mask = 0
        for node in bits(members & self.rows.computing):
            for piece in self.rows.made[node]:
                own = self.rows.pieces[piece]
                if not own.to_end and not self.rows.readers[piece] & ~members:
                    mask |= 1 << piece
        return mask

    def _bound(self, last: int, members: int, roles: Roles) -> int:
        computing = members & self.rows.computing
        alone = computing & (computing - 1) == 0
        carried = () if alone else self.rows.request.ordered  # what these keep is there only while they run
        fixed = max((self._scratch.get(k, 0) for k in bits(computing) if k not in carried), default=0)
        ends = max(self.bytes(roles.last_used), self.bytes(roles.defined))
        if not computing:
            return ends
        if computing & self.rows.at_once:
            return fixed + self.bytes(roles.last_used | roles.defined)
        schedules = self._schedules(last, members, self._drained(last, members, roles))
        most = min(self._most(moments, members, roles) for moments in schedules)
        most = max(most, self._early(last, members, roles.last_used))
        if alone and computing == 1 << last and self.rows.request.may_run_backward(last):
            most = min(most, self._backward(last, roles))
        if self._strips and not alone and self._may_be_cut(last, computing, roles.defined):
            most = min(most, self.bytes(roles.last_used | roles.defined))
        return fixed + max(ends, most)

    def _may_be_cut(self, last: int, computing: int, defined: int) -> bool:
        """True if a group may run in column strips. It then holds all that is seen outside until its end, and
        of what only its nodes see some columns: here none.

        No rows can be made for others on the way, unless they are copied by a last node that moves them; and
        sums over rows are not kept for some columns.
        """
        if any(self.rows.takes(node) and self.rows.steps(node) > 1 for node in bits(computing)):
            return False
        return not computing >> last & 1 or not any(
            self._made[node] & defined for node in bits(computing & ~(1 << last))
        )

    def _schedules(self, last: int, members: int, drained: tuple[int, ...] = ()) -> list[Moments]:
        """The schedules that a group may have, by which of its joins have code."""
        if self._many(last, members, drained):
            return [self._schedule(last, members, 0, by_last=True)]
        uneven = bits(members & self.rows.uneven & ~(1 << last))
        return [self._schedule(last, members, asking, drained) for asking in _masks(uneven)]

    def _schedule(
        self, last: int, members: int, asking: int, drained: tuple[int, ...] = (), *, by_last: bool = False
    ) -> Moments:
        nodes = members if drained else _window(last, members)
        key = (last, nodes, asking, drained, by_last)
        if key not in self._moments:
            line = self.rows.timeline(last, nodes, asking, drained)
            self._moments[key] = Moments(self.rows, line, by_last=by_last)
        return self._moments[key]

    def _drained(self, last: int, members: int, roles: Roles) -> tuple[int, ...]:
        """Nodes whose output is read outside, but of which the group does not demand all rows."""
        line = self._schedule(last, members, 0).line
        return tuple(
            node
            for node in bits(members & self.rows.computing)
            if node != last
            and self._made[node] & roles.defined
            and len(line.of(node)) < self.rows.steps(node)
        )

    def _most(self, moments: Moments, members: int, roles: Roles) -> int:
        computing = members & self.rows.computing
        total = np.zeros(len(moments.at), np.int64)
        alone = computing & (computing - 1) == 0
        for node in bits(computing):
            over = self._read[node] & roles.last_used != 0
            for piece in self.rows.made[node]:
                if roles.defined >> piece & 1:
                    total = total + moments.defined(piece, over=over)
            if not alone and self.rows.accumulates(node):
                total = total + moments.sums(node)
        for piece in bits(roles.last_used):
            total = total + moments.last_used(piece, members)
        inside = self.touched(members) & ~roles.through & ~roles.last_used & ~roles.defined
        for piece in bits(inside):
            if self.rows.pieces[piece].maker >= 0:
                total = total + moments.inside(piece)
        return int(total.max())

    def _backward(self, node: int, roles: Roles) -> int:
        """The same for one node that makes its rows from the last to the first."""
        steps = self.rows.steps(node)
        total = np.zeros(steps, np.int64)
        in_place = any(r.elementwise and roles.last_used >> r.piece & 1 for r in self.rows.reads[node])
        for piece in self.rows.made[node]:
            if roles.defined >> piece & 1:
                own = self.rows.pieces[piece]
                total = total + _made_backward(own, steps, running=not in_place) * own.line
        for read in self.rows.reads[node]:
            if roles.last_used >> read.piece & 1:
                total = total + _needed_backward(read, steps) * self.rows.pieces[read.piece].line
        return int(total.max())


def _made_backward(piece: Piece, steps: int, *, running: bool) -> Ints:
    """Rows of a piece that are made before each row of the value, if that is made from the last row on; with
    the row itself if it lies over nothing."""
    return piece.height - piece.among(np.arange(steps) + (not running))


def _needed_backward(read: PieceRead, steps: int) -> Ints:
    rows = read.upto[:steps]
    rows = np.append(rows, np.zeros(steps - len(rows), np.int64))
    return np.append(0, rows[:-1]) if read.elementwise else rows


def _window(last: int, members: int) -> int:
    """The nodes of the schedule in which a group is looked at: as far back as the group reaches, or a bit
    further, so that groups that end alike share it."""
    reach = WINDOW
    while reach <= last and members & ((1 << last + 1 - reach) - 1):
        reach *= 2
    return (1 << last + 1) - (1 << max(0, last + 1 - reach))


def _masks(joins: Sequence[int]) -> list[int]:
    """All sets of some joins."""
    masks = [0]
    for join in joins:
        masks += [mask | 1 << join for mask in masks]
    return masks
