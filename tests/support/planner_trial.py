# SPDX-License-Identifier: Apache-2.0
"""One tiny graph: what the planner claims of it, against trying all plans. For a test and a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from random import Random

from brute_layouts import Rules, TooMany
from brute_planner import plan_within
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.ir.regions import SRAM
from mmcc.planner import layer_by_layer, layouts
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from tiny_graphs import tiny_graph


@dataclass
class Tally:
    """What was tried so far."""

    plans: int = 0
    proved: int = 0
    given_up: int = 0

    def __str__(self) -> str:
        return f"{self.plans} plans, {self.proved} proved, {self.given_up} too large to try all"


def try_seed(seed: int, tally: Tally) -> Iterator[str]:
    """What is wrong with the plans of the graph of a seed."""
    graph, random = tiny_graph(seed), Random(seed)
    outside = random.random() < 0.25
    request = PlanRequest(
        align=random.choice([1, 1, 4]),
        backward=random.random() < 0.8,
        external_inputs=outside,
        external_outputs=outside and random.random() < 0.5,
        effort=2.0,
    )
    for groups in (False, True):
        asked = replace(request, fuse=groups)
        beaten: dict[int, bool] = {}  # by bytes: some plan needs less
        for few in (False, True):
            tally.plans += 1
            try:
                made = _planned(graph, asked, few=few)
            except Exception as error:  # whatever it is, it is ours
                yield f"{asked}: {type(error).__name__}: {error}"
                continue
            tally.proved += made.proved_optimal
            for text in _wrong(graph, asked, made, beaten, tally):
                yield f"{asked}: {text}"


def _planned(graph: Graph, request: PlanRequest, *, few: bool) -> Plan:
    with _few_layouts() if few else _as_it_is():
        return best_plan(graph, request)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _few_layouts() -> Iterator[None]:
    """As for graphs with more operands of joins than can be tried: bounds over all layouts are used."""
    old = layouts.FEW_OPERANDS, layer_by_layer.ALL_LAYOUTS
    layouts.FEW_OPERANDS = layer_by_layer.ALL_LAYOUTS = 0
    try:
        yield
    finally:
        layouts.FEW_OPERANDS, layer_by_layer.ALL_LAYOUTS = old


def _wrong(
    graph: Graph, request: PlanRequest, made: Plan, beaten: dict[int, bool], tally: Tally
) -> Iterator[str]:
    yield from check_plan(graph, made)
    peak = made.peak(SRAM)
    if made.proved_optimal != (peak == made.bound):
        yield f"proved {made.proved_optimal}, but the bound of {peak} is {made.bound}"
    rules = Rules(request.align, request.external(graph), request.backward, request.fuse)
    try:
        if made.bound not in beaten:
            beaten[made.bound] = plan_within(graph, rules, made.bound - 1)
    except TooMany:
        tally.given_up += 1
        return
    if beaten[made.bound]:
        yield f"the bound is {made.bound}, proved {made.proved_optimal}, but a plan needs less"
