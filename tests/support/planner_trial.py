# SPDX-License-Identifier: Apache-2.0
"""One tiny graph: what the planner claims of it, against trying all plans. For a test and a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from random import Random

from brute_layouts import Rules, TooMany
from brute_planner import NodeCosts, plan_within
from mmcc.checker.plan import check_plan
from mmcc.ir.graph import Graph, nest_of
from mmcc.ir.nest import LoopKind
from mmcc.ir.plan import Blocks, Plan
from mmcc.ir.regions import SRAM
from mmcc.kernels.accumulate import accumulator_bytes
from mmcc.planner import layer_by_layer, layouts
from mmcc.planner.api import best_plan
from mmcc.planner.caches import predicted
from mmcc.planner.cost import node_cost
from mmcc.planner.request import PlanRequest, Staging
from mmcc.planner.riders import riders
from tiny_graphs import strips_graph, sums_graph, tiny_graph
from tiny_row_orders import cells_graph, gradients_graph

# Calls cost about as much as copies, so that neither is always better.
COSTS = {
    "call": 40.0,
    "element_row": 5.0,
    **dict.fromkeys(("concat_element", "strided_copy_element"), 1.0),
}
ROUNDING = 1e-6  # of a cost


@dataclass
class Tally:
    """What was tried so far."""

    plans: int = 0
    proved: int = 0
    given_up: int = 0

    def __str__(self) -> str:
        return f"{self.plans} plans, {self.proved} proved, {self.given_up} too large to try all"


GRAPHS = {
    "any": tiny_graph,
    "strips": strips_graph,
    "sums": sums_graph,
    "pixels": strips_graph,
    "cells": cells_graph,
    "gradients": gradients_graph,
    "staged": strips_graph,
}


def try_seed(seed: int, tally: Tally, kind: str = "any") -> Iterator[str]:
    """What is wrong with the plans of the graph of a seed; `kind` is one of GRAPHS."""
    graph, random = GRAPHS[kind](seed), Random(seed)
    outside = random.random() < 0.25
    request = PlanRequest(
        align=random.choice([1, 1, 4]),
        backward=random.random() < 0.8,
        external_inputs=outside,
        external_outputs=outside and random.random() < 0.5,
        effort=2.0,
    )
    if kind == "strips" or (kind == "pixels" and random.random() < 0.3):
        request = replace(request, recompute=random.choice([1.1, 1.5, 2.0, 4.0]))
    if kind != "any":
        request = with_promises(graph, request, kind, random)
    for groups in (True,) if kind == "staged" else (False, True):
        asked = replace(request, fuse=groups)
        beaten: dict[int, bool] = {}  # by bytes: some plan needs less
        for few in (False, True):
            made = _planned(graph, asked, tally, few=few)
            if isinstance(made, str):
                yield made
                continue
            tally.proved += made.proved_optimal
            for text in _wrong(graph, asked, made, beaten, tally):
                yield f"{text}; {_said(asked)}"
    yield from _try_limit(graph, replace(request, cost=COSTS), random, tally)
    if kind == "staged":  # what cannot be kept is searched for in another way: by levels
        least = best_plan(graph, request).peak(SRAM)
        asked = replace(request, cost=COSTS, limit=random.randint(least // 2, least - 1))
        made = _planned(graph, asked, tally, few=False)
        texts = [made] if isinstance(made, str) else _wrong(graph, asked, made, {}, tally)
        yield from (f"{text}; {_said(asked)}" for text in texts)


def with_promises(graph: Graph, request: PlanRequest, kind: str, random: Random) -> PlanRequest:
    """What kernels promise of their rows and pixels, and bytes that some work in."""
    nodes = [(k, accumulator_bytes(graph, node)) for k, node in enumerate(graph.nodes)]
    works = {k: random.randint(1, 24) for k, size in nodes if not size and random.random() < 0.2}
    sums = {k: size for k, size in nodes if size is not None}
    nests = {k: nest_of(graph, node) for k, node in enumerate(graph.nodes)}
    ordered = {k: nest.row_order for k, nest in nests.items() if nest.row_order is not None}
    works |= {k: random.randint(1, 24) for k in ordered}  # what is handed on
    layers = [k for k, nest in nests.items() if nest.multiplies] if kind == "pixels" else []
    if kind == "staged":
        tilings = {k: _tilings(graph, k, random) for k, nest in nests.items() if nest.multiplies}
        request = replace(request, staging=Staging(tilings))
    return replace(
        request,
        accumulators=sums,
        scratch=works,
        ordered=ordered,
        pixels={k: random.randint(1, 4) for k in layers if random.random() < 0.8},
        riders=riders(graph, sums),
    )


def _tilings(graph: Graph, index: int, random: Random) -> tuple[Blocks, ...]:
    """Ways to cut a layer's constants into blocks of output channels; a depthwise one has one block."""
    channels, each = graph.tensors[graph.nodes[index].output].shape[-1], random.randint(2, 24)
    some = sorted({1, random.randint(1, channels), channels})
    if getattr(graph.nodes[index].op, "groups", 1) > 1:
        some = [channels]
    return tuple(Blocks(c, -(-channels // c), c * each, (channels - 1) % c * each + each) for c in some)


def _try_limit(graph: Graph, request: PlanRequest, random: Random, tally: Tally) -> Iterator[str]:
    """What is wrong with what is said of the cost of plans within a limit that needs groups."""
    alone = best_plan(graph, replace(request, fuse=False)).peak(SRAM)
    least = best_plan(graph, request).peak(SRAM)
    limit = random.randint(least, max(least, alone - 1))
    asked = replace(request, limit=limit)
    for few in (False, True):
        made = _planned(graph, asked, tally, few=few)
        if isinstance(made, str):
            yield made
            continue
        yield from (f"{text}; {_said(asked)}" for text in check_plan(graph, made))
        if made.peak(SRAM) > limit or not made.least_cost:
            continue
        tally.proved += made.cheapest
        cost = predicted(graph, made, asked)
        if made.cheapest and cost > made.least_cost * (1 + ROUNDING) + ROUNDING:
            yield f"{asked}: called cheapest, costs {cost}, nothing less than {made.least_cost}"
        rules = rules_of(graph, asked)
        try:
            if plan_within(graph, rules, limit, _costs(graph), made.least_cost * (1 - ROUNDING)):
                yield f"{asked}: said to cost {made.least_cost} at least, but a plan costs less"
        except TooMany:
            tally.given_up += 1


def rules_of(graph: Graph, request: PlanRequest) -> Rules:
    """What the brute force may do, as the planner is asked."""
    tilings = request.staging.tilings if request.staging else {}
    return Rules(
        request.align,
        request.external(graph),
        request.backward,
        request.fuse,
        request.accumulators,
        request.scratch,
        request.recompute,
        request.pixels,
        {k: kind is LoopKind.BACKWARD for k, kind in request.ordered.items()},
        request.riders,
        {k: (some[0].bytes, some[-1].bytes) for k, some in tilings.items()},
    )


def _said(request: PlanRequest) -> str:
    """What of a request is not as it is if nobody says anything."""
    usual = PlanRequest()
    given = {f.name: getattr(request, f.name) for f in fields(request)}
    return ", ".join(f"{name} {value}" for name, value in given.items() if value != getattr(usual, name))


def _costs(graph: Graph) -> dict[int, NodeCosts]:
    """What each node costs."""
    every = [node_cost(graph, node, COSTS) for node in graph.nodes]
    return {index: NodeCosts(cost.work, cost.row, cost.call) for index, cost in enumerate(every)}


def _planned(graph: Graph, request: PlanRequest, tally: Tally, *, few: bool) -> Plan | str:
    """The plan, or how the planner failed."""
    tally.plans += 1
    try:
        with _few_layouts() if few else _as_it_is():
            return best_plan(graph, request)
    except Exception as error:  # whatever it is, it is ours
        return f"{type(error).__name__}: {error}; {_said(request)}"


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
    rules = rules_of(graph, request)
    if any(bytes_ >= made.bound and not known for bytes_, known in beaten.items()):
        return  # nothing needs less than that, so nothing needs less than this
    try:
        if made.bound not in beaten:
            beaten[made.bound] = plan_within(graph, rules, made.bound - 1)
    except TooMany:
        tally.given_up += 1
        return
    if beaten[made.bound]:
        yield f"the bound is {made.bound}, proved {made.proved_optimal}, but a plan needs less"
