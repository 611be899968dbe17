# SPDX-License-Identifier: Apache-2.0
"""Graph and Plan -> Program: every node becomes a kernel with numbers, every group its loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mmcc.codegen.loops import group_body
from mmcc.codegen.names import escape
from mmcc.codegen.staged import SLICE
from mmcc.errors import Where
from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import Group, Place, Plan, Staged
from mmcc.ir.program import Program, ProgramNode, StagedBlocks, Step, View
from mmcc.ir.regions import External
from mmcc.kernels import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.kernels.accumulate import accumulate
from mmcc.kernels.blocks import block_uses, kernels_of, pack_block
from mmcc.kernels.select import Operand, Site, kernel_use
from mmcc.target import Target


def lower(graph: Graph, plan: Plan, name: str, target: Target) -> Program:
    """Resolve all addresses. Nodes that the plan made aliases get no code."""
    nodes: list[ProgramNode] = []
    body: list[Step] = []
    for number, group in enumerate(plan.groups):
        members = [index for index in group.nodes if index not in plan.aliases]
        nodes += [_program_node(graph, plan, index, target) for index in members]
        if members:
            body.append(_step(graph, plan, number, group, members))
    regions = plan.regions() or {target.memory[0]: 0}  # the context has one even if nothing lives in it
    tensors = [port.tensor for port in (*graph.inputs, *graph.outputs) if not graph.is_constant(port.tensor)]
    ports = {tensor: view_of(graph, plan, tensor) for tensor in tensors}
    return Program(name, regions, ports, tuple(nodes), tuple(body))


def view_of(graph: Graph, plan: Plan, name: str) -> View:
    """Where the plan put a tensor; external inputs and outputs are memories of their own."""
    slot, size = plan.slots[name], graph.tensors[name].dtype.size
    place = plan.places[slot.buffer]
    return View(
        memory_of(graph, place),
        place.offset + slot.offset,
        slot.row_stride,
        slot.col_stride // size,
        slot.rows,
    )


def memory_of(graph: Graph, place: Place) -> str:
    """What the program calls the memory that a place is in."""
    if not isinstance(place.region, External):
        return place.region.name
    for kind, ports in (("input", graph.inputs), ("output", graph.outputs)):
        for index, port in enumerate(ports):
            if port.tensor == place.region.tensor:
                return f"{kind}_{index}"
    raise LookupError(place.region)


def describe(where: tuple[Where, ...]) -> str:
    """The model's own names for a node, safe in a comment."""
    return " + ".join(f'{w.op} "{escape(w.name, 60)}"' if w.name else w.op for w in where)


def _operand(graph: Graph, plan: Plan, name: str) -> Operand:
    tensor = graph.tensors[name]
    data = graph.constants.get(name)
    return Operand(tensor, None if data is not None else view_of(graph, plan, name), data)


def _site(graph: Graph, plan: Plan, index: int, target: Target) -> Site:
    node = graph.nodes[index]
    inputs = tuple(_operand(graph, plan, name) for name in node.inputs)
    outputs = tuple(_operand(graph, plan, name) for name in node.outputs)
    return Site(f"n{index}", inputs, outputs, target)


def _program_node(graph: Graph, plan: Plan, index: int, target: Target) -> ProgramNode:
    node, site = graph.nodes[index], _site(graph, plan, index, target)
    if index in plan.staged:
        return _staged_node(graph, plan, index, site, plan.staged[index])
    use = kernel_use(node.op, site)
    if index in plan.accumulators:
        place = plan.places[plan.accumulators[index]]
        use = accumulate(node.op, site, View(memory_of(graph, place), place.offset, 0, 0, 1))
    return ProgramNode(index, site.label, str(node.op), _describe(graph, node), node.where, use)


def _staged_node(graph: Graph, plan: Plan, index: int, site: Site, staged: Staged) -> ProgramNode:
    """A node whose constants come in blocks; the output of a block begins where memory "slice" does."""
    node, blocks = graph.nodes[index], staged.blocks
    others, kinds = (), (0,)
    if blocks.count > 1:
        sliced = replace(
            site, outputs=(replace(site.output, view=replace(site.output.where(), memory=SLICE)),)
        )
        (use, *others), kinds = kernels_of(graph, index, sliced, blocks)
    else:
        use = kernel_use(node.op, site)
    if index in plan.accumulators:
        place = plan.places[plan.accumulators[index]]
        use = accumulate(node.op, site, View(memory_of(graph, place), place.offset, 0, 0, 1))
    step = graph.tensors[node.output].dtype.bytes(blocks.channels)
    places = tuple(plan.places[name].offset for name in staged.buffers)
    arena = memory_of(graph, plan.places[staged.buffers[0]])
    memory = site.output.where().memory
    offset = sum(s.blocks.total for k, s in plan.staged.items() if k < index)
    found = StagedBlocks(offset, blocks.bytes, blocks.last, blocks.count, places, arena, memory, step)
    text = _describe(graph, node)
    return ProgramNode(index, site.label, str(node.op), text, node.where, use, found, tuple(others), kinds)


def weights_file(graph: Graph, plan: Plan, target: Target) -> Iterator[bytes]:
    """The file of weights of a model whose constants are staged, block by block."""
    for index in sorted(plan.staged):
        blocks = plan.staged[index].blocks
        uses = iter((_program_node(graph, plan, index, target).use,))
        if blocks.count > 1:
            uses = block_uses(graph, index, _site(graph, plan, index, target), blocks.channels)
        for k, use in enumerate(uses):
            room = blocks.last if k == blocks.count - 1 else blocks.bytes
            raw = pack_block(use).to_bytes()
            assert len(raw) <= room, f"block {k} of node {index} has {len(raw)} bytes, not {room}"
            yield raw.ljust(room, b"\0")


def _describe(graph: Graph, node: Node) -> str:
    number = f"node {node.where[0].node} of the model: " if node.where else ""
    return f"{_shapes(graph, node)}, {number}{describe(node.where)}"


def _shapes(graph: Graph, node: Node) -> str:
    shapes = [graph.tensors[name].shape for name in (*graph.activations(node), *node.outputs)]
    texts = ["x".join(map(str, shape)) or "1" for shape in shapes]
    made = len(node.outputs)
    return f"{', '.join(texts[:-made])} -> {', '.join(texts[-made:])}"


def _step(graph: Graph, plan: Plan, number: int, group: Group, members: list[int]) -> Step:
    lines = [f"{index}: {graph.nodes[index].op}, {_shapes(graph, graph.nodes[index])}" for index in members]
    return Step(number, tuple(members), tuple(lines), group_body(graph, plan, number))
