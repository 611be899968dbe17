# SPDX-License-Identifier: Apache-2.0
"""The memory side of a graph under one layout: what each step touches, and bytes alive at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Buffer, BufferKind, Overlap
from mmcc.ir.regions import External
from mmcc.planner.memory.layout import Layout, dense
from mmcc.planner.memory.lower_bound import cover
from mmcc.planner.memory.overlap import Distance
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Root:
    """One buffer to be: a tensor that has its own bytes, with all that lies in them.

    `writers` and `users` are sets of units as bit masks; users read or write.
    """

    name: str
    size: int  # in the arena; 0 if it is outside
    bytes: int  # of the buffer, a multiple of `align`
    align: int
    kind: BufferKind
    external: bool
    from_start: bool
    to_end: bool
    writers: int
    users: int


@dataclass(frozen=True, slots=True)
class Unit:
    """One node that runs; `over` gives for each root it may be written over the distances in bytes.

    A unit with several outputs is written over nothing.
    """

    node: int
    outputs: tuple[int, ...]
    roots: tuple[int, ...]  # read or written, each once
    over: tuple[tuple[int, int, int | None], ...]  # root, distance, distance backward
    scratch: int
    before: int  # units that must have run, as a bit mask
    apart: int = 0  # units that may not run in one group with it, as a bit mask

    @property
    def output(self) -> int:
        """The root of a unit that writes one."""
        (root,) = self.outputs
        return root


@dataclass(frozen=True, slots=True)
class MemoryModel:
    roots: tuple[Root, ...]
    units: tuple[Unit, ...]

    def floor(self, unit: Unit) -> int:
        """Bytes that the unit's own operands need at least, in any order."""
        if len(unit.outputs) > 1:
            return sum(self.roots[r].size for r in unit.roots) + unit.scratch
        output = self.roots[unit.output]
        over = [(root, d, back) for root, d, back in unit.over if not self.roots[root].to_end]
        total = sum(self.roots[r].size for r in unit.roots) + unit.scratch
        if output.from_start:
            return total
        dying = [(d, self.roots[r].size, back) for r, d, back in over]
        least = total
        for part in (dying, *([one] for one in dying)):
            least = min(least, total - output.size - sum(s for _, s, _ in part) + cover(output.size, part))
        return least

    def profile(self, order: Sequence[int]) -> list[int]:
        """Bytes alive at each step of an order, overlap considered: no placement can need less."""
        alive = sum(root.size for root in self.roots if root.from_start)
        done, steps = 0, list[int]()
        for index in order:
            during, alive = self.step(index, done, alive)
            done |= 1 << index
            steps.append(during)
        return steps

    def step(self, index: int, done: int, alive: int) -> tuple[int, int]:
        """Bytes alive while unit `index` runs after the set `done`, and after it."""
        unit, done_after = self.units[index], done | 1 << index
        written = [self.roots[r] for r in unit.outputs]
        born = sum(root.size for root in written if not root.from_start and not root.writers & done)
        dead = [r for r in unit.roots if self.dies(r, done_after)]
        freed = sum(self.roots[r].size for r in dead)
        if not born or len(written) > 1:
            return alive + born + unit.scratch, alive + born - freed
        output = written[0]
        dying = [(d, self.roots[r].size, back) for r, d, back in unit.over if r in dead]
        under = sum(size for _, size, _ in dying)
        during = alive - under + cover(output.size, dying) + unit.scratch
        return during, alive + output.size - freed

    def dies(self, root: int, done: int) -> bool:
        """True if nothing after the set `done` needs the root."""
        return not self.roots[root].to_end and not self.roots[root].users & ~done

    def alive(self, order: Sequence[int], step: int) -> tuple[set[str], set[str]]:
        """Names of the roots that hold bytes at one step, and of those that later steps write to."""
        before, upto = sum(1 << k for k in order[:step]), sum(1 << k for k in order[: step + 1])
        alive = [
            root
            for root in self.roots
            if (root.from_start or root.writers & upto) and (root.to_end or root.users & ~before)
        ]
        return {root.name for root in alive}, {root.name for root in alive if root.writers & ~upto}


def make_model(
    graph: Graph, layout: Layout, request: PlanRequest, distance: Mapping[int, Mapping[str, Distance]]
) -> MemoryModel:
    """The roots and units of a layout; `distance` is `overlap.distances` by node."""
    nodes = [k for k in range(len(graph.nodes)) if k not in layout.aliases]
    made_by = _makers(graph, layout, {node: k for k, node in enumerate(nodes)})
    inside: dict[str, list[str]] = {}
    for name, view in layout.views.items():
        inside.setdefault(view.root, []).append(name)
    names = list(inside)
    number = {name: k for k, name in enumerate(names)}
    writers, users = [0] * len(names), [0] * len(names)
    units: list[Unit] = []
    for k, index in enumerate(nodes):
        node = graph.nodes[index]
        read = _read(graph, layout, index)
        outs = tuple(dict.fromkeys(number[layout.views[name].root] for name in node.outputs))
        touched = tuple(dict.fromkeys([*outs, *(number[layout.views[name].root] for name in read)]))
        for root in outs:
            writers[root] |= 1 << k
        for root in touched:
            users[root] |= 1 << k
        before = 0
        for name in graph.activations(node):
            before |= made_by[name]
        over = _over(graph, layout, index, distance[index], number, request)
        scratch = _round(request.scratch.get(index, 0), request.align)
        units.append(Unit(index, outs, touched, over, scratch, before & ~(1 << k)))
    roots = tuple(
        _root(graph, request, name, tuple(inside[name]), writers[k], users[k]) for k, name in enumerate(names)
    )
    return MemoryModel(roots, _after_old_states(graph, layout, number, users, writers, units))


def _after_old_states(
    graph: Graph,
    layout: Layout,
    number: Mapping[str, int],
    users: Sequence[int],
    writers: Sequence[int],
    units: Sequence[Unit],
) -> tuple[Unit, ...]:
    """The units; those that write a state's new value run after all that read the old one."""
    found = list(units)
    for state in graph.states:
        old, new = (number[layout.views[name].root] for name in (state.begin, state.end))
        for writer in bits(writers[new]) if old != new else ():
            readers = users[old] & ~(1 << writer)
            found[writer] = replace(found[writer], before=found[writer].before | readers)
            found[writer] = replace(found[writer], apart=found[writer].apart | readers)
            for reader in bits(readers):
                found[reader] = replace(found[reader], apart=found[reader].apart | 1 << writer)
    return tuple(found)


def make_buffers(
    model: MemoryModel, order: Sequence[int], request: PlanRequest
) -> tuple[tuple[Buffer, ...], tuple[Overlap, ...], dict[int, str]]:
    """Buffers with their live ranges, the overlaps allowed, and by node the name of its scratch buffer."""
    position = {unit: step for step, unit in enumerate(order)}
    end = max(1, len(order))
    buffers: list[Buffer] = []
    lives: list[Span] = []
    for root in model.roots:
        steps = [position[k] for k in bits(root.users)]
        lo = 0 if root.from_start else min((position[k] for k in bits(root.writers)), default=0)
        hi = end if root.to_end else max(steps, default=0) + 1
        lives.append(Span(lo, hi))
        regions = (External(root.name),) if root.external else request.regions
        buffers.append(Buffer(root.name, root.kind, root.bytes, lives[-1], regions, root.align))
    overlaps: list[Overlap] = []
    scratch: dict[int, str] = {}
    taken = {b.name for b in buffers}
    for step, index in enumerate(order):
        unit = model.units[index]
        if unit.over and lives[unit.output].lo == step and not model.roots[unit.output].from_start:
            dying = [o for o in unit.over if lives[o[0]].hi == step + 1 and not model.roots[o[0]].to_end]
            for root, d, back in dying:
                names = model.roots[unit.output].name, model.roots[root].name
                overlaps.append(Overlap(step, *names, d, back if len(dying) == 1 else None))
        if unit.scratch:
            name = f"scratch{unit.node}"
            while name in taken:  # a tensor of the model may be called anything
                name += "_"
            taken.add(name)
            scratch[unit.node] = name
            buffers.append(
                Buffer(
                    name,
                    BufferKind.SCRATCH,
                    unit.scratch,
                    Span(step, step + 1),
                    request.regions,
                    request.align,
                )
            )
    return tuple(buffers), tuple(overlaps), scratch


def bits(mask: int) -> list[int]:
    """The members of a set given as a bit mask."""
    found: list[int] = []
    while mask:
        low = mask & -mask
        found.append(low.bit_length() - 1)
        mask ^= low
    return found


def _read(graph: Graph, layout: Layout, index: int) -> tuple[str, ...]:
    """Activations whose bytes a node's code reads; a Concat reads only what it copies."""
    node = graph.nodes[index]
    if index in layout.copied:
        read = (node.inputs[k] for k in layout.copied[index])
        return tuple(name for name in read if not graph.is_constant(name))
    return graph.activations(node)


def _makers(graph: Graph, layout: Layout, unit_of: Mapping[int, int]) -> dict[str, int]:
    """For each tensor, the units that must have run before it is complete."""
    made: dict[str, int] = dict.fromkeys(graph.tensors, 0)
    for index, node in enumerate(graph.nodes):
        if index in layout.aliases:
            for name in node.inputs:
                made[node.output] |= made[name]
        else:
            made |= dict.fromkeys(node.outputs, 1 << unit_of[index])
    return made


def _over(
    graph: Graph,
    layout: Layout,
    index: int,
    distance: Mapping[str, Distance],
    number: Mapping[str, int],
    request: PlanRequest,
) -> tuple[tuple[int, int, int | None], ...]:
    """Roots that the node's output may be written over; both must be whole tensors, back to back."""
    external = request.external(graph)
    node = graph.nodes[index]
    if len(node.outputs) > 1:
        return ()
    if not _is_whole(graph, layout, node.output) or node.output in external:
        return ()
    found: dict[str, Distance] = {}
    barred: set[str] = {layout.views[node.output].root}
    for name in _read(graph, layout, index):
        root = layout.views[name].root
        if not _is_whole(graph, layout, name) or root in external:
            barred.add(root)
        found[root] = distance[name].join(found.get(root, distance[name]))
    own = _align(graph, request, node.output)  # two offsets differ by a multiple of the smaller alignment
    align = {root: min(own, _align(graph, request, root)) for root in found}
    return tuple(
        (
            number[root],
            _round(d.forward, align[root]),
            _round(d.backward, align[root]) if request.backward else None,
        )
        for root, d in found.items()
        if root not in barred
    )


def _is_whole(graph: Graph, layout: Layout, name: str) -> bool:
    view, tensor = layout.views[name], graph.tensors[name]
    root = graph.tensors[view.root]
    same = tensor.bytes == root.bytes and view.offset == 0
    contiguous = dense(tensor.shape, tensor.dtype.size)
    return same and all(
        extent == 1 or a == b for extent, a, b in zip(tensor.shape, view.strides, contiguous, strict=True)
    )


def _root(
    graph: Graph, request: PlanRequest, name: str, inside: tuple[str, ...], writers: int, users: int
) -> Root:
    external = name in request.external(graph)
    is_input = any(t in graph.input_names for t in inside)
    is_output = any(t in graph.output_names for t in inside)
    align = _align(graph, request, name)
    size = _round(graph.tensors[name].bytes, align)
    return Root(
        name,
        size=0 if external else size,
        bytes=size,
        align=align,
        kind=BufferKind.INPUT if is_input else BufferKind.OUTPUT if is_output else BufferKind.TENSOR,
        external=external,
        from_start=is_input or external,
        to_end=is_output or external or not users,  # an input that is never read is still written
        writers=writers,
        users=users,
    )


def _align(graph: Graph, request: PlanRequest, name: str) -> int:
    return max(request.align, graph.tensors[name].dtype.size)


def _round(size: int, align: int) -> int:
    return -(-size // align) * align
