# SPDX-License-Identifier: Apache-2.0
"""What kinds of work cost on a target, with the kernels that it is compiled for."""

from __future__ import annotations

from collections.abc import Mapping

from mmcc.target import Target


def cost_of(target: Target) -> Mapping[str, float]:
    """Figures of planner/cost.py: of kernels with small frames where these are taken and have their own."""
    return {**target.cost, **target.cost_of_small_frames} if target.small_frames else target.cost
