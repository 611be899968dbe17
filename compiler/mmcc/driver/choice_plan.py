# SPDX-License-Identifier: Apache-2.0
"""What the search over choices of saved values asks of the plan of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the plan of a choice: the smallest arena.

    Where that takes `below` bytes or more, any plan does: what none is below is then all that is asked for.
    No plan has fewer than `at_least`. If it is `rough`, what is soon found is good enough.
    """

    below: int | None = None
    at_least: int = 0
    rough: bool = False
    slow_cycles: float = 0.0  # that a byte takes to slow memory or back

    def of(self, request: PlanRequest) -> PlanRequest:
        """The request with this in it."""
        return replace(
            request,
            below=self.below,
            at_least=self.at_least,
            rough=self.rough,
            slow_cycles=self.slow_cycles,
        )


# A plan of a graph, and its arena.
Planned = Callable[[Graph, Asked], tuple[Plan, int]]
