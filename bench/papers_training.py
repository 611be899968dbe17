# SPDX-License-Identifier: Apache-2.0
"""Memory of a training step against its time, in the set-ups of papers: Hascoet, MONeT, POET.

The plans are those of `mmcc train` (keep, make again or page each value of the forward pass; groups, rows,
offsets), of a step of one sample, priced by the paper's machine instead of a target's figures. mmcc has no
batch, since it sums up gradients over steps. A batch of B on a GPU is planned as one sample each of whose
elements stands for B of them: all that the arena holds is then B times as large, and what a row needs stays
the same. Parameters and what optimizers keep of them are there once.

Time is that of the paper's machine: multiply-accumulates at its peak, other nodes by the bytes that they read
and write, copies to slow memory by what a byte takes, waited for as far as the computation of their group
does not cover them. Nothing here runs on a GPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mmcc.driver.ask import plan_request
from mmcc.driver.choice_plan import Asked
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, silent
from mmcc.driver.recompute import KeptValues, SlowMemory
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.made_again import MadeAgain
from mmcc.ir.plan import Plan
from mmcc.passes.separate_states import separate_states
from mmcc.planner.api import best_plan
from mmcc.planner.cost import plan_cost, quantities, row_figure
from mmcc.planner.paging import traffic
from mmcc.target import load_target
from mmcc.training.module import STEP, forward_pass, training_module
from mmcc.training.options import TrainOptions
from mmcc.training.recompute import SavedValues
from networks import model_file, progress
from papers_networks import resnet

EFFORT = 2.0  # seconds for the exact placement of each plan, about


@dataclass(frozen=True, slots=True)
class Machine:
    """A paper's: multiply-accumulates a second, bytes of memory a second, bytes to slow memory or back."""

    macs: float
    memory: float
    copied: float

    def figures(self, graph: Graph) -> dict[str, float]:
        """What `planner/cost.py` asks for, in multiply-accumulates; an element of a node is what the bytes of
        all such nodes take, over their elements."""
        found: dict[str, float] = {"call": 0.0}
        moved, elements = dict[str, float](), dict[str, float]()
        for node in graph.nodes:
            found[row_figure(graph, node)] = 0.0
            for name, count in quantities(graph, node).items():
                found[name] = float(name.endswith("_mac"))
                if not nest_of(graph, node).macs:
                    size = sum(graph.tensors[tensor].bytes for tensor in (*node.inputs, *node.outputs))
                    moved[name] = moved.get(name, 0.0) + size
                    elements[name] = elements.get(name, 0.0) + count
        prices = {name: size * self.macs / self.memory / elements[name] for name, size in moved.items()}
        return found | prices | {"page_out_element": 0.0, "page_in_element": 0.0}


TITAN_X = Machine(5.5e12, 480e9, 12e9)  # peak; PCIe 3
M4_SD = Machine(3.185e6, 1e12, 4.44e6)  # POET's Cortex-M4F and its card


@dataclass(frozen=True, slots=True)
class Setting:
    """What a paper did and what is to be reached: bytes of all memory, at so much more time."""

    name: str
    network: str
    batch: int
    machine: Machine
    train: TrainOptions
    parameters: int  # how often all parameters are in memory: values, gradients, moments
    rows: bool  # nodes may run together row by row; else each makes whole tensors
    share: float = 1.0  # of the step's work and time
    slow: int = 0  # bytes of slow memory for a sample
    goal: float = 0.0
    paper: str = ""


MOMENTUM, SUMS = TrainOptions(optimizer="momentum"), TrainOptions(accumulate=2)
VGG19, VGG16, GB = "gen_vgg19_224", "gen_vgg16_224", 1 << 30
SETTINGS = {
    "hascoet": (
        Setting("whole tensors", VGG19, 64, TITAN_X, MOMENTUM, 3, False),
        Setting("whole tensors, made again", VGG19, 64, TITAN_X, MOMENTUM, 3, False, 1.04, goal=4_229e6,
                paper="-35 % at +21 %"),
        Setting("rows", VGG19, 64, TITAN_X, MOMENTUM, 2, True, 1.005, goal=2_832e6, paper="-35 % at +21 %"),
        Setting("rows, paged", VGG19, 64, TITAN_X, MOMENTUM, 2, True, 1.005, GB, 2_832e6, "-35 % at +21 %"),
    ),
    "monet": (
        Setting("rows", VGG16, 176, TITAN_X, SUMS, 2, True, 1.005, goal=5.19e9,
                paper="14.12 to 5.51 GB at +9.1 %"),
        Setting("rows, paged", VGG16, 176, TITAN_X, SUMS, 2, True, 1.005, GB, 5.19e9,
                "14.12 to 5.51 GB at +9.1 %"),
    ),
    "poet": (
        Setting("rows, made again", "resnet18 32", 1, M4_SD, SUMS, 0, True, 1.22,
                goal=570e3, paper="737,719 bytes at +50 %, paged"),
    ),
    "resnet50": (
        Setting("rows, made again", "resnet50 224", 1, TITAN_X, SUMS, 0, True, 1.1),
    ),
}  # fmt: skip
CLAIMS = {
    "hascoet": "Hascoet: VGG-19, batch 64, 35 % less memory at 21 % more time, by offloading (2019)",
    "monet": "MONeT: VGG-16, batch 176, 14.12 to 5.51 GB at 9.1 % more time (ICLR 2021)",
    "poet": "POET: ResNet-18 for CIFAR, 737,719 bytes of activations at 1.5 times the time (ICML 2022)",
    "resnet50": "ResNet-50: how far the least arena found for 10 % more work is above what none is below",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A setting's plan: bytes of arena of a sample and what none is below (0: not known), of all memory, time
    more than without, values made again and paged, seconds that it took."""

    setting: str
    arena: int
    bound: int
    total: int
    more_time: float
    again: int
    paged: int
    seconds: float
    goal: float
    at_most: float
    paper: str

    @property
    def reached(self) -> bool:
        return self.total <= self.goal and self.more_time <= self.at_most

    def __str__(self) -> str:
        gap = f"{self.arena / self.bound - 1:7.1%}" if self.bound else f"{'-':>7}"
        words = f"<= {self.goal / 1e6:,.2f} at +{self.at_most:.1%}: {'yes' if self.reached else 'no'}"
        return (
            f"{self.setting:26} {self.arena:>11,} {gap} {self.total / 1e6:>10,.2f} {self.more_time:>+7.2%} "
            f"{self.again:>5} {self.paged:>5} {self.seconds:>7.0f}  {words if self.goal else '-':32} "
            f"{self.paper}"
        ).rstrip()


HEADER = (
    f"{'':26} {'arena':>11} {'gap':>7} {'all, MB':>10} {'time':>7} {'again':>5} {'paged':>5} {'seconds':>7}  "
    f"{'goal, MB':32} paper"
)


def run(settings: Iterable[Setting]) -> Iterator[Row]:
    """The table of a paper, a row at a time."""
    with tempfile.TemporaryDirectory(prefix="mmcc-papers-") as folder:
        for setting in settings:
            progress(f"{setting.network}: {setting.name}")
            yield measure(setting, _file(setting.network, Path(folder)))


def _file(network: str, folder: Path) -> Path:
    if network.startswith("gen_"):
        return model_file(network)
    name, size = network.split()
    return resnet(int(name.removeprefix("resnet")), int(size), 10 if int(size) < 64 else 1000, folder / name)


def measure(setting: Setting, file: Path) -> Row:
    """Plan one setting."""
    begun = time.monotonic()
    graph = load_graph(file, CompileOptions())
    module, target = training_module(graph, setting.train), load_target("host")
    step = next(entry.graph for entry in module.entries if entry.name == STEP)
    figures, cycles = setting.machine.figures(step), setting.machine.macs / setting.machine.copied
    plans = dict[int, tuple[Graph, Plan, int]]()

    def planned(graph: Graph, asked_for: Asked) -> tuple[Plan, int]:
        separate = separate_states(graph)
        asked = asked_for.of(plan_request(CompileOptions("host", recompute=1.0), separate, target, silent))
        asked = replace(asked, fuse=setting.rows, effort=EFFORT, cost=figures)
        plan = best_plan(separate, asked)
        plans[id(graph)] = graph, plan, asked.peak(plan)
        return plan, asked.peak(plan)

    forward = {name for node in forward_pass(graph, setting.train).nodes for name in node.outputs}
    made: MadeAgain | None = None
    best = step
    if setting.share > 1:
        memory = SlowMemory(setting.slow, cycles)
        saved = SavedValues(step, forward)
        found = KeptValues(saved, planned, setting.share, memory, figures, setting.share).least()
        best, made = found if found is not None else (step, None)
    if id(best) not in plans:
        planned(best, Asked())
    _, plan, arena = plans[id(best)]
    parts = (part for node in step.nodes for part in quantities(step, node).items())
    before = sum(count * figures[name] for name, count in parts)
    separate = separate_states(best)
    waiting = traffic(separate, plan, figures, cycles).stalls
    states = module.entries[0].graph.states
    parameters = sum(state.initial.nbytes for state in states if state.begin in module.parameters)
    return Row(
        f"{setting.network.removeprefix('gen_')} {setting.name}"[:40],
        arena,
        made.bound if made else plan.bound,
        arena * setting.batch + parameters * setting.parameters,
        (plan_cost(separate, plan, figures) + waiting) / before - 1,
        len(made.again) if made else 0,
        len(made.paged) if made else 0,
        time.monotonic() - begun,
        setting.goal,
        setting.share - 1,
        setting.paper,
    )
