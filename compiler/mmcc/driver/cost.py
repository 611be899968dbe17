# SPDX-License-Identifier: Apache-2.0
"""What kinds of work cost on a target, with the kernels that it is compiled for."""

from __future__ import annotations

from collections.abc import Mapping

from mmcc.kernels.winograd.conv_float import VARIANT as WINOGRAD
from mmcc.target import Target


def cost_of(target: Target) -> Mapping[str, float]:
    """Figures of planner/cost.py: of kernels with small frames where these are taken and have their own, and
    none of kernels that the target does not have."""
    figures = {**target.cost, **target.cost_of_small_frames} if target.small_frames else target.cost
    lacking = WINOGRAD not in target.kernels
    return {name: value for name, value in figures.items() if not (lacking and name.startswith(WINOGRAD))}
