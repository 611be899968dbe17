# SPDX-License-Identifier: Apache-2.0
"""Techniques that save memory in training, one by one, on one network: each a switch of one planner.

The step of DS-CNN (float, SGD on sums of gradients) for a Cortex-M4: arena of a step, parameters and what is
kept of them, work more than the step's own, and bytes that are copied to slow memory and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mmcc.driver.ask import plan_request
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.recompute import KeptValues, SlowMemory
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.cost import plan_cost
from mmcc.planner.paging import traffic
from mmcc.planner.states import state_bytes
from mmcc.target import load_target
from mmcc.training.module import STEP, training_module
from mmcc.training.options import TrainOptions
from mmcc.training.recompute import SavedValues
from networks import model_file, progress

CLAIM = "What is known to save memory in training: rows, recomputation, offloading, sparse updates"
NETWORK, TARGET = "kws_dscnn_fp32", "cortex-m4"
SLOW_CYCLES = 4.0  # a byte to slow memory or back


@dataclass(frozen=True, slots=True)
class Row:
    """One technique: bytes of arena and of states, work more than without, bytes copied, share of waiting."""

    technique: str
    arena: int
    states: int
    more_work: float
    copied: int
    waiting: float

    def __str__(self) -> str:
        return (
            f"{self.technique:52} {self.arena:>9,} {self.states:>9,} {self.more_work:>7.1%} "
            f"{self.copied:>11,} {self.waiting:>8.2%}"
        )


HEADER = f"{'technique':52} {'arena':>9} {'states':>9} {'work':>7} {'copied':>11} {'waiting':>8}"


def run() -> Iterator[Row]:
    """The table, a row at a time."""
    graph = load_graph(model_file(NETWORK), CompileOptions())
    summed = TrainOptions(accumulate=8)
    yield _row("all values kept, layer by layer", graph, summed, fuse=False)
    yield _row("all values kept, row by row", graph, summed)
    yield _row("recomputation, at most +25 %", graph, summed, share=1.25)
    yield _row("offloading", graph, summed, slow=1 << 20)
    yield _row("sparse update: last 3 layers", graph, replace(summed, update="last:3"))
    yield _row("sparse update: biases", graph, replace(summed, update="bias"))
    yield _row("sparse update: last 3 layers, a step for each sample", graph, TrainOptions(update="last:3"))
    yield _row("all layers, momentum", graph, TrainOptions(optimizer="momentum"))


def _row(
    technique: str, graph: Graph, train: TrainOptions, share: float = 1.0, slow: int = 0, *, fuse: bool = True
) -> Row:
    progress(technique)
    module, target = training_module(graph, train), load_target(TARGET)
    step = next(entry.graph for entry in module.entries if entry.name == STEP)

    def planned(graph: Graph) -> tuple[Plan, int]:
        graph = separate_states(graph)
        asked = plan_request(CompileOptions(TARGET, recompute=1.0), graph, target, silent)
        plan = best_plan(graph, replace(asked, fuse=fuse, rough=True))
        return plan, asked.peak(plan)

    more = 0.0
    if share > 1 or slow:
        forward = {name for node in graph.nodes for name in node.outputs}
        memory = SlowMemory(slow, SLOW_CYCLES)
        found = KeptValues(SavedValues(step, forward), planned, share, memory, target.cost).least()
        assert found is not None, "nothing that saves memory was found"
        step, made = found
        more = made.macs_again / made.macs
    plan, arena = planned(step)
    moved = traffic(separate_states(step), plan, target.cost, SLOW_CYCLES)
    cost = plan_cost(separate_states(step), plan, target.cost)
    return Row(technique, arena, state_bytes(module.states), more, moved.bytes, moved.stalls / cost)
