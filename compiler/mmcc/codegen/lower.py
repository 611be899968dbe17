# SPDX-License-Identifier: Apache-2.0
"""Graph and Plan -> Program: every node becomes a kernel with numbers, every group its loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mmcc.codegen.loops import group_body
from mmcc.codegen.moves import buffer_moves, moves_before
from mmcc.codegen.names import escape
from mmcc.codegen.places import address_of, view_of
from mmcc.codegen.staged import SLICE
from mmcc.errors import Where
from mmcc.ir.graph import Graph, Node
from mmcc.ir.plan import Group, Plan, Staged
from mmcc.ir.program import Moves, Program, ProgramNode, StagedBlocks, Step, View
from mmcc.kernels import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.kernels.accumulate import accumulate
from mmcc.kernels.blocks import block_uses, kernels_of, pack_block
from mmcc.kernels.select import Operand, Site, kernel_use
from mmcc.target import Target


def lower(graph: Graph, plan: Plan, name: str, target: Target) -> Program:
    """Resolve all addresses. Nodes that the plan made aliases get no code."""
    nodes: list[ProgramNode] = []
    body: list[Step | Moves] = []
    moves = buffer_moves(graph, plan)
    for number, group in enumerate(plan.groups):
        members = [index for index in group.nodes if index not in plan.aliases]
        nodes += [_program_node(graph, plan, index, number, target) for index in members]
        body += moves_before(plan, moves, number)
        if members:
            body.append(_step(graph, plan, number, group, members))
    body += moves_before(plan, moves, len(plan.groups))
    regions = plan.regions() or {target.memory[0]: 0}  # the context has one even if nothing lives in it
    inside = [port.tensor for port in graph.outputs if not graph.is_constant(port.tensor)]
    ports = {port.tensor: view_of(graph, plan, port.tensor, 0) for port in graph.inputs}
    ports |= {name: view_of(graph, plan, name, len(plan.groups)) for name in inside}
    return Program(name, regions, ports, tuple(nodes), tuple(body))


def describe(where: tuple[Where, ...]) -> str:
    """The model's own names for a node, safe in a comment."""
    return " + ".join(f'{w.op} "{escape(w.name, 60)}"' if w.name else w.op for w in where)


def _operand(graph: Graph, plan: Plan, name: str, step: int) -> Operand:
    tensor = graph.tensors[name]
    data = graph.constants.get(name)
    return Operand(tensor, None if data is not None else view_of(graph, plan, name, step), data)


def _site(graph: Graph, plan: Plan, index: int, step: int, target: Target) -> Site:
    node = graph.nodes[index]
    inputs = tuple(_operand(graph, plan, name, step) for name in node.inputs)
    outputs = tuple(_operand(graph, plan, name, step) for name in node.outputs)
    return Site(f"n{index}", inputs, outputs, target)


def _program_node(graph: Graph, plan: Plan, index: int, step: int, target: Target) -> ProgramNode:
    node, site = graph.nodes[index], _site(graph, plan, index, step, target)
    if index in plan.staged:
        return _staged_node(graph, plan, index, site, plan.staged[index])
    use = kernel_use(node.op, site)
    if index in plan.accumulators:
        at = address_of(graph, plan.places[plan.accumulators[index]])
        use = accumulate(node.op, site, View(at.memory, at.offset, 0, 0, 1))
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
        at = address_of(graph, plan.places[plan.accumulators[index]])
        use = accumulate(node.op, site, View(at.memory, at.offset, 0, 0, 1))
    step = graph.tensors[node.output].dtype.bytes(blocks.channels)
    moves = plan.block_moves(index)[0]
    places = [address_of(graph, move.target) for move in moves]
    (arena,) = {place.memory for place in places}
    memory = site.output.where().memory
    offsets = tuple(place.offset for place in places)
    begin = moves[0].source.offset
    found = StagedBlocks(begin, blocks.bytes, blocks.last, blocks.count, offsets, arena, memory, step)
    text = _describe(graph, node)
    return ProgramNode(index, site.label, str(node.op), text, node.where, use, found, tuple(others), kinds)


def weights_file(graph: Graph, plan: Plan, target: Target) -> Iterator[bytes]:
    """The file of weights of a model whose constants are staged, block by block."""
    steps = {index: step for step, group in enumerate(plan.groups) for index in group.nodes}
    for index in sorted(plan.staged):
        blocks = plan.staged[index].blocks
        uses = iter((_program_node(graph, plan, index, steps[index], target).use,))
        if blocks.count > 1:
            uses = block_uses(graph, index, _site(graph, plan, index, steps[index], target), blocks.channels)
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
