# SPDX-License-Identifier: Apache-2.0
"""Staged constants while a step of a program runs: are they there, and does each kernel see its own?"""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.program_run import Made, Moved
from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.program import BufferMove


class Constants:
    """Which constants the arena holds while a step runs, and where kernels look for theirs."""

    def __init__(self, graph: Graph, plan: Plan, step: int) -> None:
        self._graph, self._plan, self._step = graph, plan, step
        self._live = {b.name: b.live for b in plan.buffers}
        self._stay: set[int] = set()
        self._base: int | None = None  # the node whose block kernels see; None: the arena's start

    def moved(self, moved: Moved) -> Iterator[str]:
        """The move of a node's constants is started, or waited for."""
        if isinstance(moved.move, BufferMove):
            yield f'step {self._step} moves buffer "{moved.move.buffer}" while it runs'
            return
        node = moved.move.node
        if not 0 <= node < len(self._graph.nodes):
            yield f"step {self._step} moves constants of node {node}, which does not exist"
            return
        staged, here = self._plan.staged.get(node), label(self._graph, node)
        if staged is None:
            yield f"constants of {here} are read, but are not staged"
            return
        if not moved.starts and node not in self._plan.groups[self._step].nodes:
            yield f"step {self._step} waits for constants of {here}, which is not in its group"
        places = staged.buffers[:1] if staged.resident or moved.starts else staged.buffers
        for name in places:
            if not self._live[name].lo <= self._step < self._live[name].hi:
                when = f"are read at step {self._step}"
                yield f'constants of {here} {when}, but their buffer "{name}" does not live then'
        if not moved.starts and staged.resident:
            self._stay.add(node)
            self._base = None
        elif not moved.starts:
            self._base = node

    def use(self, made: Made) -> Iterator[str]:
        """A call must see its own constants."""
        staged = self._plan.staged.get(made.node)
        here = f"{label(self._graph, made.node)} looks for its constants"
        if staged is None:
            return
        if staged.resident and made.node not in self._stay:
            yield f"{here} before they are read"
        elif staged.resident and self._base is not None:
            yield f"{here} where those of {label(self._graph, self._base)} came to"
        elif not staged.resident and not made.by_blocks:
            yield f"{here} where they stay, but they come in blocks"
        if made.by_blocks and made.restores:
            self._base = None
