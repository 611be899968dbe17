# SPDX-License-Identifier: Apache-2.0
"""The checkers convict loops whose steps find or put things elsewhere, and plans of bodies that are wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from looped_graph import loop
from mmcc.checker.plan import check_plan
from mmcc.checker.program import check_program
from mmcc.codegen.lower import lower
from mmcc.driver.ask import plan_request
from mmcc.driver.bodies import as_far_as_proved
from mmcc.driver.options import CompileOptions, silent
from mmcc.ir.graph import Graph
from mmcc.ir.module import Module
from mmcc.ir.plan import MemoryPlan, Plan
from mmcc.ir.program import Program
from mmcc.ir.regions import SRAM
from mmcc.ops.repeat import Repeat
from mmcc.planner.api import best_plan
from mmcc.target import load_target

pytestmark = pytest.mark.quick

HOST = load_target("host")


def planned(graph: Graph) -> Plan:
    return best_plan(graph, plan_request(CompileOptions(), graph, HOST, silent))


def lowered(graph: Graph, plan: Plan) -> Program:
    return lower(Module.of(graph), MemoryPlan.of(plan), "net", HOST)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_what_is_made_is_sound(steps):
    graph = loop(steps)
    plan = planned(graph)
    assert check_plan(graph, plan) == []
    assert check_program(Module.of(graph), MemoryPlan.of(plan), lowered(graph, plan)) == []


def changed(program: Program, **options) -> Program:
    """The program with other numbers for its loop."""
    (entry,) = program.entries
    nodes = tuple(
        each
        if each.body is None
        else replace(each, use=replace(each.use, options=tuple((dict(each.use.options) | options).items())))
        for each in entry.nodes
    )
    return replace(program, entries=(replace(entry, nodes=nodes),))


def options_of(program: Program) -> dict:
    return dict(next(each.use.options for each in program.entries[0].nodes if each.body is not None))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda o: {"steps": 4}, "takes 4 steps, not 5"),
        (lambda o: {"handed_on": (o["handed_on"][0][::-1], o["handed_on"][1])}, "is left at"),
        (lambda o: {"handed_on": (o["handed_on"][0], (o["handed_on"][1][0],) * 2)}, "over something"),
        (lambda o: {"handed_on": (o["handed_on"][0], (0, o["handed_on"][1][1]))}, "over something"),
        (lambda o: {"handed_on": (o["handed_on"][0], (4096, o["handed_on"][1][1]))}, "which has"),
        (lambda o: {"handed_on": (o["handed_on"][0], ("x3", o["handed_on"][1][1]))}, "an operand"),
        (lambda o: {"slices": ((2, 0, 48),)}, "finds a slice at"),
        (lambda o: {"slices": ((2, 192, -44),)}, "finds a slice at"),
        (lambda o: {"rows": (("y1", 48, True),)}, "puts a row at"),
        (lambda o: {"rows": (("y", 48, False),)}, "puts a row at"),
        (lambda o: {"wholes": ()}, "whole"),
        (lambda o: {"handed_on": o["handed_on"][:1]}, "hands on"),
        (lambda o: {"handed_on": (o["handed_on"][0], (o["handed_on"][1][0] + 2, 0))}, "not aligned to its 4"),
        (lambda o: {"works": False}, "does not know where what it works in is"),
    ],
)
def test_steps_that_are_not_those_of_the_op(change, says):
    graph = loop()
    plan = planned(graph)
    program = lowered(graph, plan)
    faults = check_program(
        Module.of(graph), MemoryPlan.of(plan), changed(program, **change(options_of(program)))
    )
    assert any(says in text for text in faults), faults


def with_body_plan(graph: Graph, change) -> Graph:
    """The graph with another plan for the body of its loop."""
    first, second = graph.nodes
    assert isinstance(second.op, Repeat)
    return replace(graph, nodes=(first, replace(second, op=replace(second.op, plan=change(second.op.plan)))))


def askew(plan: Plan) -> Plan:
    inside = {name for name, place in plan.places.items() if place.region in plan.regions()}
    moved = {name: replace(plan.places[name], offset=plan.places[name].offset + 2) for name in inside}
    return replace(plan, places=plan.places | moved)


def test_the_plan_of_a_body_is_checked_like_any():
    graph = loop()
    plan = planned(graph)
    assert graph.nodes[1].op.plan.regions()  # there is something to place
    faults = check_plan(with_body_plan(graph, askew), plan)
    assert any("the body of" in text and "not aligned" in text for text in faults), faults
    assert any("has no plan" in text for text in check_plan(with_body_plan(graph, lambda _: None), plan))


def test_buffers_of_a_body_lie_in_what_its_loop_works_in():
    """In another memory they would be in the arena around the loop, over whatever that has there."""
    graph = loop()
    plan = planned(graph)

    def elsewhere(own: Plan) -> Plan:
        regions = own.regions()
        places = {n: replace(p, region=SRAM) if p.region in regions else p for n, p in own.places.items()}
        buffers = (replace(b, regions=(SRAM,)) if b.regions[0] in regions else b for b in own.buffers)
        return replace(own, places=places, buffers=tuple(buffers))

    faults = check_plan(with_body_plan(graph, elsewhere), plan)
    assert any("is in sram, not in what the loop works in" in text for text in faults), faults
    askew = tuple(replace(b, align=1) if b.name == plan.scratch[1] else b for b in plan.buffers)
    faults = check_plan(graph, replace(plan, buffers=askew))
    assert any("of the body of" in text and "its arena to 1" in text for text in faults), faults


def test_every_value_is_known_where_it_is():
    graph = loop()
    plan = planned(graph)
    program = lowered(graph, plan)
    (entry,) = program.entries
    (looped,) = (each for each in entry.nodes if each.body is not None)
    for name, _ in looped.use.fields:
        fields = tuple(field for field in looped.use.fields if field[0] != name)
        use = replace(looped.use, fields=fields)
        nodes = tuple(replace(each, use=use) if each is looped else each for each in entry.nodes)
        wrong = replace(program, entries=(replace(entry, nodes=nodes),))
        faults = check_program(Module.of(graph), MemoryPlan.of(plan), wrong)
        assert any(f"does not know where {name} is" in text for text in faults), (name, faults)


def test_a_body_without_room():
    graph = loop()
    plan = planned(graph)
    name = plan.scratch[1]
    small = tuple(replace(b, size=8) if b.name == name else b for b in plan.buffers)
    faults = check_program(
        Module.of(graph), MemoryPlan.of(replace(plan, buffers=small)), lowered(graph, plan)
    )
    assert any("and 8 to work in" in text for text in faults), faults
    assert any("bytes to work in, but the plan has 8" in text for text in faults), faults


def test_operands_of_a_loop_are_dense():
    graph = loop()
    plan = planned(graph)
    slots = plan.slots | {"xs": replace(plan.slots["xs"], row_stride=plan.slots["xs"].row_stride + 16)}
    buffers = tuple(
        replace(b, size=b.size + 64) if b.name == plan.slots["xs"].buffer else b for b in plan.buffers
    )
    faults = check_plan(graph, replace(plan, slots=slots, buffers=buffers))
    assert any('finds "xs"' in text and "dense" in text for text in faults), faults


def test_nodes_of_a_body_have_numbers_of_their_own():
    graph = loop()
    plan = planned(graph)
    program = lowered(graph, plan)
    (entry,) = program.entries
    bodies = [each.body for each in entry.nodes if each.body is not None]
    assert [body.first for body in bodies] == [len(graph.nodes)]
    nodes = tuple(
        each if each.body is None else replace(each, body=replace(each.body, first=0)) for each in entry.nodes
    )
    wrong = replace(program, entries=(replace(entry, nodes=nodes),))
    faults = check_program(Module.of(graph), MemoryPlan.of(plan), wrong)
    assert any("numbered from 0 on" in text for text in faults), faults
    wrong = replace(program, entries=(replace(entry, bodies=1),))
    faults = check_program(Module.of(graph), MemoryPlan.of(plan), wrong)
    assert any("nodes of bodies in run are numbered from 1 on" in text for text in faults), faults


def test_a_plan_is_proved_no_further_than_its_bodies():
    graph = loop()
    plan = planned(graph)
    assert plan.proved_optimal
    assert as_far_as_proved(graph, plan) == plan
    unsure = with_body_plan(graph, lambda own: replace(own, proved_optimal=False))
    known = as_far_as_proved(unsure, replace(plan, bounds={"fast": 64}))
    assert not known.proved_optimal
    assert known.bounds == {"fast": 0}, "with a smaller body there may be a plan of fewer bytes"


def test_bodies_that_were_planned_layer_by_layer_prove_nothing_of_groups():
    """And of bodies whose nodes run together, as they need fewer bytes, others may be cheaper."""
    graph = loop()
    plan = replace(planned(graph), over_groups=True, cheapest=True, least_cost=5.0)
    alone = as_far_as_proved(with_body_plan(graph, lambda own: replace(own, over_groups=False)), plan)
    assert alone.proved_optimal
    assert not alone.over_groups
    assert alone.cheapest

    def grouped(own: Plan) -> Plan:
        (first, second), others = own.groups[:2], own.groups[2:]
        both = replace(second, nodes=(*first.nodes, *second.nodes))
        return replace(own, over_groups=True, groups=(both, *others))

    together = as_far_as_proved(with_body_plan(graph, grouped), plan)
    assert together.over_groups
    assert not together.cheapest
    assert together.least_cost == 0
