"""Graph and Plan -> Program: every node becomes a kernel with numbers, every group its loop."""

from __future__ import annotations

from mmcc.codegen.layers import (
    Operand,
    Site,
    catalog,  # noqa: F401  # pyright: ignore[reportUnusedImport]
    kernel_use,
)
from mmcc.codegen.layers.accumulate import accumulate
from mmcc.codegen.loops import group_body
from mmcc.codegen.names import escape
from mmcc.errors import Where
from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import Group, Plan
from mmcc.ir.program import Program, ProgramNode, Step, View
from mmcc.planner.request import EXTERNAL
from mmcc.target import Target

ARENA = "sram"


def lower(graph: Graph, plan: Plan, name: str, target: Target) -> Program:
    """Resolve all addresses. Nodes that the plan made aliases get no code."""
    nodes: list[ProgramNode] = []
    body: list[Step] = []
    for number, group in enumerate(plan.groups):
        members = [index for index in group.nodes if index not in plan.aliases]
        nodes += [_program_node(graph, plan, index, target) for index in members]
        if members:
            body.append(_step(graph, plan, number, group, members))
    tiers = sorted({place.tier for place in plan.places.values()})
    arenas = {tier: plan.peak(tier) for tier in tiers if not tier.startswith(EXTERNAL)}
    arenas = arenas or {ARENA: 0}  # the context has one even if nothing lives in it
    tensors = [port.tensor for port in (*graph.inputs, *graph.outputs) if port.tensor not in graph.constants]
    ports = {tensor: view_of(graph, plan, tensor) for tensor in tensors}
    return Program(name, arenas, ports, tuple(nodes), tuple(body))


def view_of(graph: Graph, plan: Plan, name: str) -> View:
    """Where the plan put a tensor; external inputs and outputs are memories of their own."""
    slot, size = plan.slots[name], graph.tensors[name].dtype.size
    place = plan.places[slot.buffer]
    memory = _port_memory(graph, place.tier) if place.tier.startswith(EXTERNAL) else place.tier
    return View(memory, place.offset + slot.offset, slot.row_stride, slot.col_stride // size, slot.rows)


def _port_memory(graph: Graph, tier: str) -> str:
    """The C name of the memory that the caller gives for one input or output."""
    tensor = tier.removeprefix(EXTERNAL)
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        for index, port in enumerate(ports):
            if port.tensor == tensor:
                return f"{kind}_{index}"
    raise LookupError(tier)


def describe(where: tuple[Where, ...]) -> str:
    """The model's own names for a node, safe in a comment."""
    return " + ".join(f'{w.op} "{escape(w.name, 60)}"' if w.name else w.op for w in where)


def _operand(graph: Graph, plan: Plan, name: str) -> Operand:
    tensor = graph.tensors[name]
    data = graph.constants.get(name)
    return Operand(tensor, None if data is not None else view_of(graph, plan, name), data)


def _program_node(graph: Graph, plan: Plan, index: int, target: Target) -> ProgramNode:
    node = graph.nodes[index]
    label = f"n{index}"
    inputs = tuple(_operand(graph, plan, name) for name in node.inputs)
    site = Site(label, inputs, _operand(graph, plan, node.output), target)
    use = kernel_use(node.op, site)
    if index in plan.accumulators:
        place = plan.places[plan.accumulators[index]]
        use = accumulate(node.op, site, View(place.tier, place.offset, 0, 0, 1))
    return ProgramNode(index, label, str(node.op), _describe(graph, node), node.where, use)


def _describe(graph: Graph, node: Node) -> str:
    return f"{_shapes(graph, node)}, {describe(node.where)}"


def _shapes(graph: Graph, node: Node) -> str:
    shapes = [graph.tensors[name].shape for name in (*graph.activations(node), node.output)]
    texts = ["x".join(map(str, shape)) or "1" for shape in shapes]
    return f"{', '.join(texts[:-1])} -> {texts[-1]}"


def _step(graph: Graph, plan: Plan, number: int, group: Group, members: list[int]) -> Step:
    lines = [f"{index}: {graph.nodes[index].op}, {_shapes(graph, graph.nodes[index])}" for index in members]
    return Step(number, tuple(members), tuple(lines), group_body(graph, plan, group))
