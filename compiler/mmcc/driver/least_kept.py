# SPDX-License-Identifier: Apache-2.0
"""Of all choices of what a step keeps, the one that keeps the fewest bytes within some work."""

from __future__ import annotations

from collections.abc import Mapping

from mmcc.planner.retention.cpsat import LeastKept, Need, fewest_bytes
from mmcc.training.recompute import SavedValues


def least_kept(saved: SavedValues, work: int, counted: Mapping[str, int] | None = None) -> LeastKept:
    """Which saved values a step keeps so that what is made again takes at most so many multiply-accumulates.

    A value that backward nodes read is kept or made again; so is each that is read to make one again. Of each
    the bytes that are `counted`, or all.
    """
    sizes = {value.name: counted[value.name] if counted else value.bytes for value in saved.values}
    macs, needs, waiting = dict[str, int](), list[Need](), [("", name) for name in saved.read]
    while waiting:
        reader, name = waiting.pop()
        if not saved.is_forward(name):
            continue
        source = saved.source(name)
        needs.append(Need(reader, name, source if source in sizes else ""))
        if name not in macs:
            macs[name] = saved.macs(name)
            waiting += [(name, other) for other in saved.graph.producer[name].inputs]
    return fewest_bytes(sizes, macs, needs, work)
