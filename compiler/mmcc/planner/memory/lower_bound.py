# SPDX-License-Identifier: Apache-2.0
"""Bytes that no placement is below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mmcc.planner.memory.problem import Pair, Problem


def lower_bound(problem: Problem) -> int:
    """Most bytes alive at once, overlaps counted as favourably as they can be."""
    change: dict[int, int] = {}
    for item in problem.items:
        change[item.lo] = change.get(item.lo, 0) + item.size
        change[item.hi] = change.get(item.hi, 0) - item.size
    saved: dict[int, int] = {}
    for (step, output), pairs in _by_output(problem.pairs).items():
        size = problem.items[output].size
        last_used = [(p.distance, problem.items[p.input].size, p.backward) for p in pairs]
        together = size + sum(s for _, s, _ in last_used) - cover(size, last_used)
        saved[step] = saved.get(step, 0) + together
    alive = bound = 0
    steps = sorted({*change, *saved, *(step + 1 for step in saved)})
    for step in steps:
        alive += change.get(step, 0)
        bound = max(bound, alive - saved.get(step, 0))
    return bound


def cover(size: int, last_used: Sequence[tuple[int, int, int | None]]) -> int:
    """Fewest bytes an output and the inputs last used under it (distance, size, backward) cover together.

    Rows forward: the output starts at 0, and input k may start at `distance[k]` (beside the output: at its
    end). Inputs share no bytes with each other, so this is one machine with release times: taken by distance,
    each starts where the one before ends, or at its distance if that is higher. A start below 0 never helps:
    it adds to what is covered as much as it takes from the end. Rows backward are the mirror image: seen from
    the output's end downward, input k may start at `backward[k] + size - bytes[k]`. The lesser of both also
    holds where, of several inputs, some are beside the output. With an input more it grows by that input's
    bytes at most, which is what the search for an order relies on.
    """
    forward = [(distance, bytes_) for distance, bytes_, _ in last_used]
    backward = [
        (size if back is None else min(back, bytes_) + size - bytes_, bytes_) for _, bytes_, back in last_used
    ]
    return max(size, min(_stacked(forward, size), _stacked(backward, size)))


def _stacked(last_used: Sequence[tuple[int, int]], size: int) -> int:
    """Where the last of some inputs ends: none starts before its distance, or the output's end."""
    end = 0
    for distance, bytes_ in sorted((min(distance, size), bytes_) for distance, bytes_ in last_used):
        end = max(end, distance) + bytes_
    return end


def _by_output(pairs: Iterable[Pair]) -> dict[tuple[int, int], list[Pair]]:
    table: dict[tuple[int, int], list[Pair]] = {}
    for pair in pairs:
        table.setdefault((pair.step, pair.output), []).append(pair)
    return table
