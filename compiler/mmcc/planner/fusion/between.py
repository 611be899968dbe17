# SPDX-License-Identifier: Apache-2.0
"""A bound for one group from what can lie between its output and an input at its last use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmcc.planner.fusion.distances import Apart
from mmcc.planner.fusion.group import GroupMemory, Item
from mmcc.planner.fusion.schedule import Ints


def between(group: GroupMemory, apart: Sequence[Apart]) -> int:
    """Bytes that an output, an input and things that are all alive together need.

    Whatever is between the output below and the input above starts so far above the output's start,
    and ends so far below the input's end; whatever is outside them adds all its bytes. So a set of
    things needs its bytes, and the least of those first distances and the least of the second; or, if
    nothing is between them, what the two need alone. Each distance counts on its own in any case. (If
    the input is below the output, what is below the input or above the output adds up to as much.)
    """
    items = group.items
    distance = {(pair.lower, pair.upper): pair.distance for pair in apart}
    defined = [k for k, i in enumerate(items) if i.allocation >= 0 and group.defined >> i.allocation & 1]
    last_used = [k for k, i in enumerate(items) if i.allocation >= 0 and group.last_used >> i.allocation & 1]
    most = 0
    others = [k for k in range(len(items)) if k not in defined and k not in last_used]
    for rest in _together(group, apart, others):
        most = max(most, sum(items[k].size for k in rest))
        for out, into in product(defined or [None], last_used or [None]):
            most = max(most, _stacked(items, distance, out, into, rest))
    return most


def _together(group: GroupMemory, apart: Sequence[Apart], things: Sequence[int]) -> list[list[int]]:
    """Sets of things of which no two may share a byte: what is always alive, and rings at one time."""
    free = {frozenset((pair.lower, pair.upper)) for pair in apart if pair.distance <= 0}
    always = [k for k in things if not any(k in pair and pair <= set(things) for pair in free)]
    stores = [k for k in things if k not in always and k < len(group.stores)]
    if not stores:
        return [always]
    times = np.unique(np.concatenate([_begins(group, k) for k in stores]))
    sets = np.unique([_alive(group, k, times) for k in stores], axis=1)
    return [[*always, *(stores[k] for k in np.flatnonzero(some))] for some in sets.T]


def _begins(group: GroupMemory, store: int) -> Ints:
    lives = group.stores[store].lives
    return np.array([group.spans[store][0]]) if lives is None else lives.begin


def _alive(group: GroupMemory, store: int, at: Ints) -> NDArray[np.bool_]:
    lives, (first, until) = group.stores[store].lives, group.spans[store]
    return (at >= first) & (at <= until) if lives is None else lives.holds(at)


def _stacked(
    items: Sequence[Item],
    distance: Mapping[tuple[int, int], int],
    out: int | None,
    into: int | None,
    rest: Sequence[int],
) -> int:
    """Bytes of an output, an input and things between them of which no two share a byte."""
    head, tail, pair = dict.fromkeys(rest, 0), dict.fromkeys(rest, 0), 0
    if out is not None:
        head = {k: max(0, distance.get((out, k), items[out].size)) for k in rest}
    if into is not None:
        room = {k: distance.get((k, into), items[k].size) - items[k].size for k in rest}
        tail = {k: max(0, items[into].size + room[k]) for k in rest}
    if out is not None and into is not None:
        pair = max(0, distance.get((out, into), items[out].size) + items[into].size)
    most = 0
    for a in set(head.values()):
        for b in set(tail.values()):
            size = sum(items[k].size for k in rest if head[k] >= a and tail[k] >= b)
            most = max(most, size + max(min(a + b, pair), a, b) if size else 0)
    return most
