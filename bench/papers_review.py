# SPDX-License-Identifier: Apache-2.0
"""Techniques that save memory in training, one by one, on a CNN and an RNN: each a switch of one planner.

The step of DS-CNN, and of an LSTM over 32 steps (float, SGD on sums of gradients, the mean squared difference
as loss) for a Cortex-M4: arena of a step, parameters and what is kept of them, work more than the step's own,
and bytes that are copied to slow memory and back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mmcc.driver.ask import plan_request
from mmcc.driver.choice_plan import Asked
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.recompute import KeptValues, SlowMemory
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.cost import plan_cost
from mmcc.planner.paging import traffic
from mmcc.planner.states import ALIGN, kept_bytes
from mmcc.target import load_target
from mmcc.training.module import STEP, forward_pass, training_module
from mmcc.training.options import TrainOptions
from mmcc.training.parameters import layers_of
from mmcc.training.recompute import SavedValues
from networks import model_file, progress

CLAIM = "What is known to save memory in training: rows, recomputation, offloading, sparse updates"
NETWORKS, TARGET = ("kws_dscnn_fp32", "gen_lstm_32x16_h32"), "cortex-m4"
SLOW_CYCLES = 4.0  # a byte to slow memory or back


@dataclass(frozen=True, slots=True)
class Row:
    """One technique on one network: bytes of arena and of states, work more than without, bytes copied, share
    of waiting."""

    network: str
    technique: str
    arena: int
    states: int
    more_work: float
    copied: int
    waiting: float

    def __str__(self) -> str:
        return (
            f"{self.network:18} {self.technique:52} {self.arena:>9,} {self.states:>9,} "
            f"{self.more_work:>7.1%} {self.copied:>11,} {self.waiting:>8.2%}"
        )


HEADER = (
    f"{'network':18} {'technique':52} {'arena':>9} {'states':>9} {'work':>7} {'copied':>11} {'waiting':>8}"
)


def run(networks: Iterable[str] = NETWORKS) -> Iterator[Row]:
    """The table, a row at a time. An RNN has fewer layers: its last one stands for the CNN's last three."""
    for network in networks:
        graph = load_graph(model_file(network), CompileOptions())
        last = min(3, max(1, layers_of(graph) - 2))
        summed = TrainOptions(loss="mse", accumulate=8)

        def row(technique: str, train: TrainOptions = summed, **switches: Any) -> Row:
            return _row(network, technique, graph, train, **switches)  # noqa: B023

        yield row("all values kept, layer by layer", fuse=False)
        yield row("all values kept, row by row")
        yield row("recomputation, at most +25 %", share=1.25)
        yield row("offloading", slow=1 << 20)
        yield row(f"sparse update: last {last} layers", replace(summed, update=f"last:{last}"))
        yield row("sparse update: biases", replace(summed, update="bias"))
        each = TrainOptions(loss="mse", update=f"last:{last}")
        yield row(f"sparse update: last {last} layers, a step for each sample", each)
        yield row("all layers, momentum", TrainOptions(loss="mse", optimizer="momentum"))


def _row(
    network: str,
    technique: str,
    graph: Graph,
    train: TrainOptions,
    share: float = 1.0,
    slow: int = 0,
    *,
    fuse: bool = True,
) -> Row:
    progress(f"{network}: {technique}")
    module, target = training_module(graph, train), load_target(TARGET)
    step = next(entry.graph for entry in module.entries if entry.name == STEP)

    def planned(graph: Graph, asked_for: Asked) -> tuple[Plan, int]:
        graph = separate_states(graph)
        asked = asked_for.of(plan_request(CompileOptions(TARGET, recompute=1.0), graph, target, silent))
        plan = best_plan(graph, replace(asked, fuse=fuse, rough=True))
        return plan, asked.peak(plan)

    more = 0.0
    if share > 1 or slow:
        forward = {name for node in forward_pass(graph, train).nodes for name in node.outputs}
        memory = SlowMemory(slow, SLOW_CYCLES)
        found = KeptValues(SavedValues(step, forward), planned, share, memory, target.cost).least()
        if found is not None:
            step, made = found
            more = made.macs_again / made.macs
    plan, arena = planned(step, Asked())
    moved = traffic(separate_states(step), plan, target.cost, SLOW_CYCLES)
    cost = plan_cost(separate_states(step), plan, target.cost)
    kept = kept_bytes(module.states, ALIGN)
    return Row(network, technique, arena, kept, more, moved.bytes, moved.stalls / cost)
