# SPDX-License-Identifier: Apache-2.0
"""Plans with moves between two regions, made by hand of plans in one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Buffer, BufferKind, Plan, Transfer
from mmcc.ir.regions import Move, Place, Region
from planner_graphs import Build

SLOW = Region("psram", align=64, read_cost=2.0, write_cost=2.5)
WHOLE = (BufferKind.INPUT, BufferKind.OUTPUT, BufferKind.TENSOR)


def skipping(seed: int = 0) -> Graph:
    """Layers in a row, and sums of what lies far apart: tensors that are of no use for many steps."""
    b = Build("skipping")
    x = b.input(10, 9 + seed, 4)
    first = b.conv(x, 8, 3)
    y = first
    for _ in range(3):
        y = b.conv(b.depthwise(y, 3, 1), 8, 1)
    y = b.sum(y, first)
    return b.graph(b.sum(b.conv(b.conv(y, 8, 3), 4, 1), x))


def idle(plan: Plan) -> Iterator[Buffer]:
    """Buffers that hold whole tensors for at least three steps."""
    yield from (b for b in plan.buffers if b.kind in WHOLE and len(b.live) >= 3)


def in_second_region(plan: Plan, name: str, slow: Region = SLOW) -> Plan:
    """The same with one buffer in another region from its first step to its last."""
    places = plan.places | {name: Place(slow, 0)}
    return replace(plan, places=places, buffers=_allowed(plan, name, slow))


def spilled(plan: Plan, name: str, out: tuple[int, int], back: tuple[int, int], slow: Region = SLOW) -> Plan:
    """The same with one buffer moved out to another region, and back to bytes that nobody else has.

    `out` and `back` are the steps at which the moves start and are complete; blocking where both are one.
    """
    home = plan.places[name].region
    assert isinstance(home, Region)
    there, end = Place(slow, 64), Place(home, -(-plan.peak(home) // 16) * 16)
    moves = (
        Transfer(Move(name, plan.places[name], there, out[0] < out[1]), *out),
        Transfer(Move(name, there, end, back[0] < back[1]), *back),
    )
    return replace(plan, transfers=moves, buffers=_allowed(plan, name, slow))


def wandering(plan: Plan, draw: random.Random) -> Plan:
    """The same with some buffers moved to and fro between regions, at any times and places: few are sound."""
    transfers: list[Transfer] = []
    buffers = {b.name: b for b in plan.buffers}
    chosen = [
        b for b in buffers.values() if b.kind in WHOLE and isinstance(plan.places[b.name].region, Region)
    ]
    for b in draw.sample(chosen, min(len(chosen), draw.randint(1, 3))):
        buffers[b.name] = replace(b, regions=(*b.regions, SLOW))
        times = sorted(draw.randint(b.live.lo, b.live.hi) for _ in range(draw.choice([2, 4])))
        at = plan.places[b.name]
        for start, wait in zip(times[::2], times[1::2], strict=True):
            region = draw.choice([SLOW, at.region])
            target = Place(region, 16 * draw.randint(0, 60 if region == SLOW else 160))
            asynchronous = draw.random() < 0.7
            move = Move(b.name, at, target, asynchronous)
            transfers.append(Transfer(move, start, wait if asynchronous else start))
            at = target
    transfers.sort(key=lambda t: t.start)
    return replace(plan, transfers=tuple(transfers), buffers=tuple(buffers.values()))


def _allowed(plan: Plan, name: str, slow: Region) -> tuple[Buffer, ...]:
    return tuple(replace(b, regions=(*b.regions, slow)) if b.name == name else b for b in plan.buffers)
