# SPDX-License-Identifier: Apache-2.0
"""How far apart two things of one group must be.

All that a group holds is alive in one step of the plan. But an input is given up row by row and an output
grows row by row, so each pair of things has a distance: how far one must start above the other for no byte to
be needed twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmcc.planner.fusion.group import NEVER, GroupMemory
from mmcc.planner.fusion.rows import Read
from mmcc.planner.fusion.schedule import Ints
from mmcc.planner.fusion.stores import Store
from mmcc.planner.fusion.timeline import Timeline, first_needed


@dataclass(frozen=True, slots=True)
class Apart:
    """Item `upper` may start `distance` above `lower` or more; that is less than the size of `lower`.

    Or, if the group makes its rows from the last to the first, `lower` may start `backward` above `upper`.
    """

    lower: int
    upper: int
    distance: int
    backward: int | None = None


def apart(group: GroupMemory) -> tuple[Apart, ...]:
    """The pairs of a group's items that may share bytes, by the items' numbers.

    There are none where the group is a kernel with several results: it may write any of them while it reads.
    """
    if group.shared.model.kernels[group.line.last].at_once:
        return ()
    spans = list(group.spans)
    spans += [(group.line.begin(kernel), group.line.end(kernel)) for kernel, _ in group.keepers]
    backward_only = group.shared.request.runs_backward(group.shared.model.kernels[group.line.last].node)
    items = group.items
    pairs: list[Apart] = []
    for a in range(len(spans)):
        for b in range(len(spans)):
            if a != b:
                step = min(items[a].align, items[b].align)  # two offsets differ by a multiple of it
                distance = items[a].size if backward_only else _distance(group, spans, a, b)
                distance = min(-(-max(distance, -items[b].size) // step) * step, items[a].size)
                back = _backward(group, a, b)
                if distance < items[a].size or (back is not None and back < items[b].size):
                    pairs.append(Apart(a, b, distance, back))
    return tuple(pairs)


def _distance(group: GroupMemory, spans: list[tuple[int, int]], lower: int, upper: int) -> int:
    """How far above item `lower` item `upper` must start, if it starts above.

    Enough that at no moment both hold the same byte: what grows has been written so far, what is last used is
    read from there on, and within a step as `Read.reach` says. Two at their last use are both whole before
    the group begins, so nothing that this group does lets them share a byte.
    """
    items, stores = group.items, group.stores
    (first, _), (_, until) = spans[lower], spans[upper]
    below, above = items[lower].allocation, items[upper].allocation
    if min(below, above) >= 0 and group.last_used >> below & group.last_used >> above & 1:
        return items[lower].size
    if _take_turns(group, lower, upper) or (until < first and group.cut is None):
        return -NEVER  # one is gone before the other begins
    grows = below >= 0 and group.defined >> below & 1 and group.cut is None
    shrinks = above >= 0 and group.last_used >> above & 1 and group.cut is None
    shrinks = shrinks and not stores[upper].writers
    if grows and shrinks:
        return _over(group.line, stores[lower], stores[upper])
    if grows:
        return _grown(group.line, stores[lower], until)
    if shrinks:
        low = first_needed(group.line, stores[upper].reads, np.array([first]), stores[upper].size)
        return items[lower].size - int(low[0])
    return items[lower].size


def _take_turns(group: GroupMemory, one: int, other: int) -> bool:
    """True for two rings of one row that never hold one at the same time."""
    if max(one, other) >= len(group.stores):
        return False
    lives, others = group.stores[one].lives, group.stores[other].lives
    return lives is not None and others is not None and not lives.meets(others)


def _grown(line: Timeline, store: Store, until: int) -> int:
    """The end of what has been written up to a time."""
    if until >= NEVER:
        return store.size
    ends = [0]
    for writer in store.writers:
        done = int(line.done(writer.kernel, np.array([until + 1]))[0])
        ends += [int(writer.end[done - 1])] if done else []
    return max(ends)


def _over(line: Timeline, out: Store, into: Store) -> int:
    """The distance of an output from an input at its last use, row by row.

    Rows that are written when nothing of the input is still to be read may be anywhere in it.
    """
    most = -NEVER
    for writer in out.writers:
        at = line.of(writer.kernel)
        steps = len(at)
        own = [read for kernel, read in into.reads if kernel == writer.kernel]
        after = np.full(steps, NEVER, np.int64)
        for kernel, read in into.reads:
            if kernel != writer.kernel:
                after = np.minimum(after, line.needed(kernel, _until_free(read.low, read), at))
        if line.atomic >> writer.kernel & 1:
            for read in own:
                after = np.minimum(after, _until_free(read.low, read)[np.searchsorted(at, at)])
            whole = writer.end[np.searchsorted(at, at, side="right") - 1]
            most = max(most, int((whole - after).max()))
            continue
        for read in own:
            count = min(steps, len(read.own))  # a batched kernel may be called more often than it has rows
            after = np.minimum(after, np.append(_until_free(read.low, read)[1:count], NEVER))
            reached = writer.reached(slice(steps), read.reach)
            most = max(most, int((reached - _until_free(read.own, read)[:steps]).max()))
        most = max(most, int((writer.end[:steps] - after).max()))
    return max(most, -NEVER)


def _until_free(first: Ints, read: Read) -> Ints:
    """First bytes of an input that steps read; NEVER where they read nothing of it."""
    return np.where(first < read.low[-1], first, NEVER)


def _backward(group: GroupMemory, lower: int, upper: int) -> int | None:
    """The distance for rows made from the last to the first; only where the group is one kernel.

    The output is then above the one thing last used; of two, one could be used forward and one backward.
    """
    if len(group.kernels) > 1 or group.line.atomic:
        return None
    kernel, allocation = group.shared.model.kernels[group.line.last], group.items[upper].allocation
    if group.items[lower].allocation != kernel.output:
        return None
    if allocation < 0 or group.last_used != 1 << allocation or group.last_used >> kernel.output & 1:
        return None
    return next((back for other, _, back in kernel.over if other == allocation), None)
