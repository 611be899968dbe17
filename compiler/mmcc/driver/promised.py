# SPDX-License-Identifier: Apache-2.0
"""What kernels promise, as the planner is told."""

from __future__ import annotations

from collections.abc import Sequence

from mmcc.kernels.contract import KernelContract
from mmcc.planner.request import Constants, PlanRequest, Staging


def request_from(promised: Sequence[KernelContract], *, staged: bool = False) -> PlanRequest:
    """What kernels promise, node by node, as the planner is told."""
    tilings = {index: each.tilings for index, each in enumerate(promised) if each.tilings}
    passes = {index: each.passes for index, each in enumerate(promised) if each.tilings}
    sums = {k: each.accumulator for k, each in enumerate(promised) if each.accumulator is not None}
    return PlanRequest(
        pixels={index: each.pixels for index, each in enumerate(promised) if each.pixels},
        scratch={index: each.scratch for index, each in enumerate(promised) if each.scratch},
        useful={index: each.useful for index, each in enumerate(promised) if each.useful},
        ordered={index: each.ordered for index, each in enumerate(promised) if each.ordered},
        accumulators=sums,
        staging=Staging(tilings, passes) if staged else None,
        parts=frozenset(index for index, each in enumerate(promised) if each.parts),
        spread=frozenset(index for index, each in enumerate(promised) if each.apart),
        loads={index: each.loads for index, each in enumerate(promised)},
        fetchable={
            index: Constants(each.constants, each.passes)
            for index, each in enumerate(promised)
            if each.constants and each.passes
        },
    )
