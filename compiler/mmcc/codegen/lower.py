# SPDX-License-Identifier: Apache-2.0
"""Module and plan -> Program: every node becomes a kernel with numbers, every group its loop."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from mmcc.codegen.loops import group_code
from mmcc.codegen.moves import buffer_moves, moves_before
from mmcc.codegen.names import escape
from mmcc.codegen.places import address_of, view_of
from mmcc.codegen.staged import SLICE
from mmcc.errors import Where
from mmcc.ir.graph import Graph, Node
from mmcc.ir.module import LOOP, Entry, Module
from mmcc.ir.plan import FILLED, Along, MemoryPlan, Place, Plan
from mmcc.ir.program import (
    EntryCode,
    FetchedConstants,
    Moves,
    Program,
    ProgramNode,
    StagedBlocks,
    Step,
    View,
)
from mmcc.ir.regions import SLOW
from mmcc.ir.state import InitialState, SavedParameters, State
from mmcc.kernels import catalog  # noqa: F401  # pyright: ignore[reportUnusedImport]
from mmcc.kernels.accumulate import accumulate, accumulator_bytes
from mmcc.kernels.blocks import block_uses, kernels_of, pack_block, part_of
from mmcc.kernels.scratch import scratch_bytes
from mmcc.kernels.select import Operand, Site, kernel_use
from mmcc.ops.repeat import Repeat, bodies_from, numbers_of
from mmcc.target import Target

LEAST_ARENA = 4  # bytes: no array of C has none, and what the linker lays behind it begins at a word


def lower(module: Module, plan: MemoryPlan, name: str, target: Target) -> Program:
    """Resolve all addresses of a module."""
    entries: list[EntryCode] = []
    staged = 0
    numbers = numbers_of([entry.graph for entry in module.entries])
    for entry, (first, bodies) in zip(module.entries, numbers, strict=True):
        own = plan.entries[entry.name]
        entries.append(lower_entry(entry, own, target, first, staged, bodies))
        staged += own.staged_bytes
    regions = plan.regions()
    if all(region.keeps for region in regions):
        regions = {target.memory[0]: 0} | regions  # the context has one even if nothing lives in it
    regions = {region: max(LEAST_ARENA, size) for region, size in regions.items()}
    states = tuple(_initial(state, plan.states[state.begin]) for state in module.states)
    slow = max(own.peak(SLOW) for own in plan.entries.values())
    pages = max(len(entry.graph.paged) for entry in module.entries)
    return Program(name, regions, tuple(entries), states, _saved(module, plan), slow, pages)


def _saved(module: Module, plan: MemoryPlan) -> SavedParameters | None:
    """The beginning of the memory that has the parameters; its mark tells theirs from others."""
    own = [state for state in module.states if state.begin in module.parameters]
    if not own:
        return None
    place = plan.states
    end = max(place[state.begin].offset + state.initial.nbytes for state in own)
    (memory,) = {place[state.begin].region for state in own}
    beside = [s for s in module.states if s not in own and place[s.begin].region == memory]
    assert all(place[state.begin].offset >= end for state in beside), "parameters are not first"
    lines = (f"{s.begin} {s.initial.dtype.str} {s.initial.shape} {place[s.begin].offset}" for s in own)
    return SavedParameters(str(memory), end, zlib.crc32("\n".join(lines).encode()))


def _initial(state: State, place: Place) -> InitialState:
    return InitialState(str(place.region), place.offset, state.initial)


def lower_entry(
    entry: Entry, plan: Plan, target: Target, first: int = 0, staged: int = 0, bodies: int = 0
) -> EntryCode:
    """One entry. In C its nodes are numbered from `first` on, those of its loops' bodies from `bodies` on (0:
    behind its own), and its staged constants begin at byte `staged` of the file. Nodes that the plan made
    aliases get no code."""
    graph = entry.graph
    bodies = bodies or first + len(graph.nodes)
    lowering = _Lowering(entry, plan, target, first, staged, bodies_from(graph, bodies))
    nodes: list[ProgramNode] = []
    body: list[Step | Moves] = []
    moves, end = buffer_moves(entry, plan), len(plan.groups)
    for number, group in enumerate(plan.groups):
        members = [index for index in group.nodes if index not in plan.aliases]
        nodes += [lowering.node(index, number) for index in members]
        body += moves_before(plan, moves, number)
        if members:
            body.append(lowering.step(number, members))
    body += moves_before(plan, moves, end)
    results = [port.tensor for port in graph.outputs]
    ports = {port.tensor: view_of(graph, plan, port.tensor, FILLED, entry.name) for port in graph.inputs}
    ports |= {name: view_of(graph, plan, name, end, entry.name) for name in results}
    return EntryCode(entry.name, first, ports, tuple(nodes), tuple(body), bodies)


def describe(where: tuple[Where, ...]) -> str:
    """The model's own names for a node, safe in a comment."""
    return " + ".join(f'{w.op} "{escape(w.name, 60)}"' if w.name else w.op for w in where)


def weights_file(module: Module, plan: MemoryPlan, target: Target) -> Iterator[bytes]:
    """The file of weights of a module whose constants are staged, block by block."""
    for entry in module.entries:
        yield from _Lowering(entry, plan.entries[entry.name], target).weights_file()


@dataclass(frozen=True, slots=True)
class _Lowering:
    """An entry with its plan, for a target; see `lower_entry`."""

    entry: Entry
    plan: Plan
    target: Target
    first: int = 0
    staged: int = 0
    bodies: Mapping[int, int] = field(default_factory=dict[int, int])  # by loop: the number of its first node

    @property
    def graph(self) -> Graph:
        return self.entry.graph

    def node(self, index: int, step: int) -> ProgramNode:
        """A node of a step with its kernel."""
        node, plan, site = self.graph.nodes[index], self.plan, self._site(index, step)
        if index in plan.staged:
            return self._staged_node(index, site)
        chunks = plan.chunks.get(index)
        if chunks is not None and chunks.along is Along.CHANNELS:
            parts = (part_of(self.graph, index, site, span) for span in chunks.spans)
            use, *others = (kernel_use(node.op, each) for each in parts)
        else:
            use, others = kernel_use(node.op, site), []
        if index in plan.groups[step].accumulating:
            use = accumulate(node.op, site, self._sums(index))
        found = self._fetched(index, step)
        return ProgramNode(
            *(index, site.label, str(node.op), self._describe(node), node.where, use),
            others=tuple(others),
            fetched=found,
            in_ram=index in self.plan.in_ram,
            body=self._body(index),
            works=self._works(index),
        )

    def _body(self, index: int) -> EntryCode | None:
        """The code of a step, if the node is a loop."""
        op = self.graph.nodes[index].op
        if not isinstance(op, Repeat):
            return None
        assert op.plan is not None, "the body of a loop is not planned"
        return lower_entry(Entry(LOOP, op.body), op.plan, self.target, self.bodies[index])

    def step(self, number: int, members: list[int]) -> Step:
        """The statements of a group, and what its comment says."""
        nodes = self.graph.nodes
        lines = [f"{self.first + k}: {nodes[k].op}, {self._shapes(nodes[k])}" for k in members]
        code = group_code(self.graph, self.plan, number)
        return Step(number, tuple(members), tuple(lines), code.body, code.functions)

    def weights_file(self) -> Iterator[bytes]:
        """The entry's part of the file of staged weights."""
        steps = {index: step for step, group in enumerate(self.plan.groups) for index in group.nodes}
        for index in sorted(self.plan.staged):
            blocks = self.plan.staged[index].blocks
            uses = iter((self.node(index, steps[index]).use,))
            if blocks.count > 1:
                uses = block_uses(self.graph, index, self._site(index, steps[index]), blocks.channels)
            for k, use in enumerate(uses):
                room = blocks.last if k == blocks.count - 1 else blocks.bytes
                raw = pack_block(use).to_bytes()
                assert len(raw) <= room, f"block {k} of node {index} has {len(raw)} bytes, not {room}"
                yield raw.ljust(room, b"\0")

    def _operand(self, name: str, step: int) -> Operand:
        tensor = self.graph.tensors[name]
        data = self.graph.constants.get(name)
        view = view_of(self.graph, self.plan, name, step, self.entry.name) if data is None else None
        return Operand(tensor, view, data)

    def _site(self, index: int, step: int) -> Site:
        node = self.graph.nodes[index]
        inputs = tuple(self._operand(name, step) for name in node.inputs)
        outputs = tuple(self._operand(name, step) for name in node.outputs)
        buffer = (self.plan.scratch or {}).get(index)
        scratch = None if buffer is None else self._buffer(buffer)
        room = next((b.size for b in self.plan.buffers if b.name == buffer), 0)
        group = self.plan.groups[step]
        alone = len(group.nodes) == 1 and not group.strips
        label = f"n{self.first + index}"
        return Site(
            *(label, inputs, outputs, self.target, self.entry.name, scratch, room, node.handoff),
            alone=alone,
            backward=group.backward,
        )

    def _fetched(self, index: int, step: int) -> FetchedConstants | None:
        """Where a node finds constants that are copied out of the weights."""
        name, plan = self.plan.fetched.get(index), self.plan
        if name is None:
            return None
        size = next(b.size for b in plan.buffers if b.name == name)
        target = address_of(self.graph, plan.place_at(name, step), self.entry.name)
        return FetchedConstants(plan.places[name].offset, target, size)

    def _sums(self, index: int) -> View | None:
        """Where an accumulating node keeps its sums; None if that is its result."""
        name = self.plan.accumulators.get(index)
        return None if name is None else self._buffer(name)

    def _works(self, index: int) -> int:
        """Bytes that a node's kernel needs, whatever the plan has for it."""
        node = self.graph.nodes[index]
        if any(index in group.accumulating for group in self.plan.groups):
            return accumulator_bytes(self.graph, node) or 0
        return scratch_bytes(self.graph, node)

    def _buffer(self, name: str) -> View:
        at = address_of(self.graph, self.plan.places[name], self.entry.name)
        return View(at.memory, at.offset, 0, 0, 1)

    def _staged_node(self, index: int, site: Site) -> ProgramNode:
        """A node whose constants come in blocks; the output of a block begins where memory "slice" does."""
        graph, plan = self.graph, self.plan
        node, blocks = graph.nodes[index], plan.staged[index].blocks
        others, kinds = (), (0,)
        if blocks.count > 1:
            slice_ = replace(site.output, view=replace(site.output.where(), memory=SLICE))
            sliced = replace(site, outputs=(slice_,), alone=False)  # its rows come once a block
            (use, *others), kinds = kernels_of(graph, index, sliced, blocks)
        else:
            use = kernel_use(node.op, site)
        if any(index in group.accumulating for group in plan.groups):
            use = accumulate(node.op, site, self._sums(index))
        step = graph.tensors[node.outputs[0]].dtype.bytes(blocks.channels)
        moves = plan.block_moves(index)[0]
        places = [address_of(graph, move.target, self.entry.name) for move in moves]
        (arena,) = {place.memory for place in places}
        memory = site.output.where().memory
        offsets = tuple(place.offset for place in places)
        begin = self.staged + moves[0].source.offset
        found = StagedBlocks(begin, blocks.bytes, blocks.last, blocks.count, offsets, arena, memory, step)
        return ProgramNode(
            index,
            site.label,
            str(node.op),
            self._describe(node),
            node.where,
            use,
            found,
            tuple(others),
            kinds,
            works=self._works(index),
        )

    def _describe(self, node: Node) -> str:
        number = f"node {node.where[0].node} of the model: " if node.where else ""
        return f"{self._shapes(node)}, {number}{describe(node.where)}"

    def _shapes(self, node: Node) -> str:
        graph = self.graph
        shapes = [graph.tensors[name].shape for name in (*graph.activations(node), *node.outputs)]
        texts = ["x".join(map(str, shape)) or "1" for shape in shapes]
        made = len(node.outputs)
        return f"{', '.join(texts[:-made])} -> {', '.join(texts[-made:])}"
