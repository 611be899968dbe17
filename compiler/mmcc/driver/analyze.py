# SPDX-License-Identifier: Apache-2.0
"""What a model could be compiled to: the least RAM, and what it costs to need less."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmcc.codegen.lower import describe
from mmcc.driver.ask import in_one_memory, plan_request
from mmcc.driver.bodies import as_far_as_proved, with_planned_bodies
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions, Progress
from mmcc.driver.rows import best_rows
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Plan
from mmcc.passes.separate_states import separate_states
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.cost import plan_cost, plan_macs
from mmcc.planner.explain import peak_step
from mmcc.report.html import render_analysis
from mmcc.report.pictures import frontier_spec
from mmcc.report.svg import svg
from mmcc.target import Target, load_target

SVG_WIDTH = 640  # of the frontier, without axes and margins
POINTS = 8  # of the frontier between the unlimited plan and the floor
RECOMPUTE = 2.0  # of the work, at most, where columns may be computed again: as --ram N allows


@dataclass(frozen=True, slots=True)
class Point:
    """One plan: bytes of arena, predicted work, and the step that needs the most."""

    arena: int
    bound: int
    proved: bool
    cost: float
    cost_ratio: float  # over the plan without a limit
    macs_ratio: float
    groups: int
    binding: str


@dataclass(frozen=True, slots=True)
class Other:
    """The least arena under other options of `mmcc compile`, and what they mean."""

    options: str
    meaning: str
    point: Point


@dataclass(frozen=True, slots=True)
class Analysis:
    """The frontier, most RAM first; its last point is the floor. `other` options may go below it.

    `memory` is the one that the arena is in where the target has several, else "".
    """

    target: str
    memory: str
    frontier: tuple[Point, ...]
    other: tuple[Other, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        other = [{"options": o.options, "meaning": o.meaning, **asdict(o.point)} for o in self.other]
        return {
            "target": self.target,
            "memory": self.memory,
            "frontier": [asdict(p) for p in self.frontier],
            "other": other,
        }

    def to_svg(self, title: str) -> str:
        """A picture of the frontier: RAM to the right, predicted work upwards.

        Raises CompileError if the library that draws is not installed.
        """
        named = f"{title}: RAM against work, {self.target}"
        return svg(frontier_spec(self.to_json(), named, width=SVG_WIDTH))

    def to_html(self, title: str) -> str:
        """The same as a page, with the table."""
        return render_analysis(self.to_json(), title)


def analyze(
    model: Path,
    target_name: str,
    dims: dict[str, int],
    bind: dict[str, Any],
    progress: Progress,
    states: Mapping[str, str] | None = None,
) -> Analysis:
    """Plan the model again and again: without a limit, at the floor, between them, and with other input."""
    target = load_target(target_name)
    options = CompileOptions(target=target_name, dims=dims, bind=bind, states=states or {})
    graph = separate_states(load_graph(model, options, progress))
    ask = partial(plan_request, CompileOptions(target=target_name), target=target, progress=progress)
    free = as_far_as_proved(graph, best_plan(graph, replace(in_one_memory(ask(graph), target), fuse=False)))
    tight = with_planned_bodies(graph, replace(options, least_ram=True))
    fused = replace(in_one_memory(ask(tight), target), fuse=True)
    work = plan_cost(graph, free, target.cost)

    def point(plan: Plan, of: Graph) -> Point:
        return _point(of, plan, target, work)

    def grouped(limit: int | None) -> Point:
        laid = best_rows(tight, replace(fused, limit=limit), ask)
        return point(laid.plan, laid.graph)

    points = [point(free, graph)]
    floor = grouped(None)
    for number, limit in enumerate(_limits(points[0].arena, floor.arena), 1):
        progress(f"at most {limit:,} bytes, down to {floor.arena:,}", number, POINTS + len(OTHERS))
        found = grouped(limit)
        if found.arena < points[-1].arena and found.arena > floor.arena:
            points.append(found)
    if floor.arena < points[-1].arena:
        points.append(floor)
    memory = target.memory[0].name if len(target.memory) > 1 else ""
    return Analysis(target.name, memory, tuple(points), tuple(_others(tight, target, point, progress)))


def _limits(most: int, least: int) -> list[int]:
    """Arena sizes between two, evenly spaced as ratios."""
    ratio = least / most
    return [round(most * ratio ** (k / (POINTS + 1))) for k in range(1, POINTS + 1)]


OTHERS = (  # inputs and outputs, whether columns may be computed again, what that means
    ("arena", True, "columns computed again; inputs stay whole in the arena meanwhile"),
    ("external", False, "inputs and outputs in memory of the caller's"),
    ("external", True, "the same, and columns computed again: inputs are read more than once"),
    ("rows", False, "a callback brings each row of an input once, as a camera does"),
    ("rows-again", True, "the callback brings rows again, for columns that are computed again"),
)


def _others(
    graph: Graph, target: Target, point: Callable[[Plan, Graph], Point], progress: Progress
) -> Iterator[Other]:
    """The floor if inputs and outputs were elsewhere, or work might be done again."""
    for number, (io, again, meaning) in enumerate(OTHERS, POINTS + 1):
        told = [f"--io {io}"] * (io != "arena") + [f"--recompute {RECOMPUTE:g}"] * again
        progress(f"with {' '.join(told)}", number, POINTS + len(OTHERS))
        options = CompileOptions(target=target.name, io=io, recompute=RECOMPUTE if again else 1.0)
        fed = stream_ports(graph, again=io == "rows-again") if io.startswith("rows") else graph
        request = replace(in_one_memory(plan_request(options, fed, target, progress), target), fuse=True)
        laid = best_rows(fed, request, partial(plan_request, options, target=target, progress=progress))
        yield Other(" ".join(told), meaning, point(laid.plan, laid.graph))


def _point(graph: Graph, plan: Plan, target: Target, work: float) -> Point:
    region = target.memory[0]
    cost = plan_cost(graph, plan, target.cost)
    once = plan_macs(graph, replace(plan, groups=tuple(replace(g, strips=()) for g in plan.groups)))
    step = peak_step(plan, region)
    nodes = plan.groups[step].nodes if plan.groups else ()
    names = (
        [describe(graph.nodes[k].where) or str(graph.nodes[k].op) for k in (nodes[0], nodes[-1])]
        if nodes
        else []
    )
    return Point(
        plan.peak(region),
        plan.bound,
        plan.proved_optimal,
        cost,
        cost / work if work else 1.0,
        plan_macs(graph, plan) / once if once else 1.0,
        len(plan.groups),
        " to ".join(dict.fromkeys(names)),
    )
