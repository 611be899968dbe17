# SPDX-License-Identifier: Apache-2.0
"""MAFAT's experiment: YOLOv2's first 16 layers, float, in little RAM; and is the plan chosen the fastest?

Farley and Gerstlauer, "MAFAT: Memory-Aware Fusing and Tiling of Neural Networks for Accelerated Edge
Inference", 2021 (arXiv:2107.06960): layers in at most two groups, each group tiled; a predictor chooses.
Theirs ran on a Raspberry Pi 3 that swaps; here RAM is what the linked program holds, and time is processor
time of one thread on this machine.

Every plan of the sweep is compiled, run, compared bit for bit with the unfused one, and timed. Then the plan
that was chosen and the fastest ones are timed again in turns, since the least of hundreds of measurements is
also the luckiest.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from forced_plans import Chain, Part, Parts, heads, parts_of, spelled, two_groups
from mmcc.checker.plan import check_plan
from mmcc.driver.compile import CompileResult, compile_model
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.regions import SRAM
from mmcc.planner.request import PlanRequest
from networks import model_file, progress
from timed_builds import Workshop

MB = 1 << 20
CLAIM = (
    'MAFAT: "less than half the memory", and "a latency that is within 6% of the best latency measured in a '
    'manual search" (arXiv:2107.06960)'
)
YOLO = "gen_yolov2_first16_608_fold"
LIMITS = (64 * MB, 32 * MB, 16 * MB, 8 * MB)
STRIPS = (1, 2, 4)  # of the groups of plans as MAFAT's
TIMED = 2  # runs of a plan in the sweep, after one that warms up and is compared
FINAL = 7  # rounds in which the chosen plan and the best ones are timed in turns
FINALISTS = 3  # of the sweep, for each limit
CLAIMED = 1.06  # times the best


@dataclass(frozen=True, slots=True)
class Timed:
    """One plan: the bytes of its arena, and milliseconds of processor time."""

    parts: Parts
    arena: int
    ms: float


@dataclass(frozen=True, slots=True)
class AtLimit:
    """What was chosen within a limit (0: none was given; -1: as little as possible), and the best."""

    limit: int
    ram: int
    arena: int
    work: float
    groups: str
    ms: float
    fitting: int  # plans of the sweep that fit
    best: str
    best_ms: float
    two_groups_ms: float | None  # the best as the paper's: two groups at most

    @property
    def ratio(self) -> float:
        return self.ms / self.best_ms

    def __str__(self) -> str:
        limit = {0: "none", -1: "least"}.get(self.limit, f"{self.limit // MB} MB")
        two = f"{self.two_groups_ms:.1f}" if self.two_groups_ms else "-"
        mark = "" if self.ratio <= CLAIMED else "  missed"
        return (
            f"{limit:>6} {self.ram:>11,} {self.arena:>11,} {self.work:>6.3f} {self.ms:>8.1f} "
            f"{self.fitting:>6} {self.best_ms:>8.1f} {two:>8} {self.ratio:>6.3f}  "
            f"{self.groups} | {self.best}{mark}"
        )


HEADER = (
    f"{'limit':>6} {'RAM':>11} {'arena':>11} {'work':>6} {'ms':>8} {'swept':>6} {'best ms':>8} "
    f"{'2 groups':>8} {'ratio':>6}  groups chosen | of the best"
)
LEGEND = (
    "work: multiplications over the model's; swept: plans timed that fit; best ms: the fastest of them;\n"
    "2 groups: the fastest of those as the paper's. Groups: nodes in each; 2x3: three groups of two nodes;\n"
    "7/4: seven nodes in four strips. Every plan's outputs were the same bits."
)


def sweep(name: str, limits: Sequence[int], seconds: float, folder: Path) -> list[AtLimit]:
    """One row without a limit, one for each limit, and one for the least RAM; at most so long."""
    model = model_file(name)
    choices = [(limit, _compiled(model, folder / f"at{limit}", limit)) for limit in (0, *limits, -1)]
    graph = choices[0][1].graph
    shop = Bench(graph, folder)
    plans = {parts_of(result.plan): result.plan for _, result in choices}
    for parts, plan in plans.items():
        wrong = check_plan(graph, plan)
        if wrong:
            raise ValueError("\n".join(wrong))
        shop.measure(parts, plan)
    chain = Chain(graph, PlanRequest(recompute=2.0), STRIPS)
    until = time.monotonic() + seconds
    for parts in swept(chain):
        if time.monotonic() > until:
            break
        if parts not in shop.found:
            shop.measure(parts, chain.plan(parts))
    besides = max(r.report["ram"]["total"] - r.report["ram"]["arena"] for _, r in choices)
    return [_row(shop, limit, result, besides) for limit, result in choices]


def swept(chain: Chain) -> Iterator[Parts]:
    """What is measured, in this order: plans as MAFAT's (at most two groups, each in strips); two groups at
    the start and the rest node by node; then any way to cut, drawn at random, as long as there is time."""
    known = dict.fromkeys((*two_groups(chain.length, STRIPS), *heads(chain.length)))
    yield from (parts for parts in known if chain.possible(parts))
    chance = random.Random(1)
    for _ in range(1 << chain.length):
        cuts = [n for n in range(1, chain.length) if chance.random() < 0.5]
        parts = tuple(Part(b - a) for a, b in pairwise([0, *cuts, chain.length]))
        if parts not in known and chain.possible(parts):
            known[parts] = None
            yield parts


class Bench:
    """Builds plans of one graph and times them; every plan's outputs must be the first one's, bit for bit."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self._graph, self._shop = graph, Workshop(graph, folder)
        rng = np.random.default_rng(1)
        shapes = [graph.tensors[port.tensor].shape for port in graph.inputs]
        self._inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        self._expected: list[bytes] | None = None
        self._plans: dict[Parts, Plan] = {}
        self.found: dict[Parts, Timed] = {}

    def measure(self, parts: Parts, plan: Plan) -> None:
        """Time a plan."""
        progress(f"plan {len(self.found) + 1}: groups of {spelled(parts)}")
        library = self._shop.build(plan)
        self._plans[parts] = plan
        self.found[parts] = Timed(parts, plan.peak(SRAM), self._time(parts, library))
        shutil.rmtree(library.parent)

    def again(self, finalists: Sequence[Parts]) -> dict[Parts, float]:
        """The least time of each, measured in turns: what else the machine does meets all of them."""
        progress(f"the best {len(finalists)} in turns")
        libraries = {parts: self._shop.build(self._plans[parts]) for parts in finalists}
        rounds = [[self._time(*pair) for pair in libraries.items()] for _ in range(FINAL)]
        for library in libraries.values():
            shutil.rmtree(library.parent)
        return {parts: min(times) for parts, times in zip(libraries, zip(*rounds, strict=True), strict=True)}

    def _time(self, parts: Parts, library: Path) -> float:
        with self._shop.loaded(library) as model:
            outputs = model.run(self._inputs)
            self._expected = self._expected or outputs
            if outputs != self._expected:
                raise ValueError(f"groups of {spelled(parts)} give other outputs than the first plan")
            return min(model.milliseconds() for _ in range(TIMED))


def _compiled(model: Path, out: Path, limit: int) -> CompileResult:
    """As `mmcc compile --ram` does it: the limit is for arena, context, static data and stack together."""
    progress(f"compiling for {limit} bytes" if limit > 0 else "compiling")
    return compile_model(model, out, CompileOptions(ram=max(0, limit), least_ram=limit < 0, weights="bin"))


def _row(shop: Bench, limit: int, result: CompileResult, besides: int) -> AtLimit:
    ram, mine = result.report["ram"], parts_of(result.plan)
    allowed = {0: 1 << 62, -1: ram["arena"]}.get(limit, limit - besides)
    fitting = [t for t in shop.found.values() if t.arena <= allowed]
    ranked = sorted(fitting, key=lambda t: t.ms)
    two = [t for t in ranked if len(t.parts) <= 2]
    finalists = dict.fromkeys((mine, *(t.parts for t in ranked[:FINALISTS]), *(t.parts for t in two[:1])))
    times = shop.again(list(finalists))
    best = min(times, key=lambda parts: times[parts])
    macs = result.report["plan"]["macs"]
    return AtLimit(
        limit,
        ram["total"],
        ram["arena"],
        1 + result.report["plan"]["macs_recomputed"] / max(1, macs),
        spelled(mine),
        times[mine],
        len(fitting),
        spelled(best),
        times[best],
        times[two[0].parts] if two else None,
    )
