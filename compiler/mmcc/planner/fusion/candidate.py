# SPDX-License-Identifier: Apache-2.0
"""A group that a path may have."""

from __future__ import annotations

from dataclasses import dataclass

from mmcc.planner.streaming.blocks import WeightStreaming


@dataclass(frozen=True, slots=True)
class Candidate:
    """One group: from the kernels done `before` it to those done `after` it; `last` demands rows of all."""

    before: int
    after: int
    last: int
    least: int  # bytes that no placement of it is below
    strips: int = 1
    floor: int = 0  # bytes that it needs in however many strips
    tile: int = 0  # steps of the last kernel in a tile iteration, if each makes its rows of one in one call
    streaming: WeightStreaming | None = None  # where the group's constants are, if they lie in slow memory
