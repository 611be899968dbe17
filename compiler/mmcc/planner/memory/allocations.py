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
from mmcc.planner.memory.overlap import SafeOffset
from mmcc.planner.request import PlanRequest


@dataclass(frozen=True, slots=True)
class Allocation:
    """One buffer to be: a tensor that has its own bytes, with all that lies in them.

    `writers` and `users` are sets of kernels as bit masks; users read or write.
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
class ScheduledKernel:
    """One node that runs; `over` gives the safe offsets in bytes for each allocation it may be written over.

    A kernel that runs at once is written over nothing.
    """

    node: int
    outputs: tuple[int, ...]
    allocations: tuple[int, ...]  # read or written, each once
    over: tuple[tuple[int, int, int | None], ...]  # allocation, safe offset, the same backward
    scratch: int
    before: int  # kernels that must have run, as a bit mask
    apart: int = 0  # kernels that may not run in one group with it, as a bit mask
    at_once: bool = False  # see Node
    alone: bool = False

    @property
    def output(self) -> int:
        """The allocation of a kernel that writes one."""
        (allocation,) = self.outputs
        return allocation


@dataclass(frozen=True, slots=True)
class MemoryModel:
    allocations: tuple[Allocation, ...]
    kernels: tuple[ScheduledKernel, ...]

    def floor(self, kernel: ScheduledKernel) -> int:
        """Bytes that the kernel's own operands need at least, in any order."""
        if kernel.at_once:
            return sum(self.allocations[a].size for a in kernel.allocations) + kernel.scratch
        output = self.allocations[kernel.output]
        over = [(a, d, back) for a, d, back in kernel.over if not self.allocations[a].to_end]
        total = sum(self.allocations[a].size for a in kernel.allocations) + kernel.scratch
        if output.from_start:
            return total
        last_used = [(d, self.allocations[a].size, back) for a, d, back in over]
        least = total
        for part in (last_used, *([one] for one in last_used)):
            least = min(least, total - output.size - sum(s for _, s, _ in part) + cover(output.size, part))
        return least

    def profile(self, order: Sequence[int]) -> list[int]:
        """Bytes alive at each step of an order, overlap considered: no placement can need less."""
        alive = sum(allocation.size for allocation in self.allocations if allocation.from_start)
        done, steps = 0, list[int]()
        for index in order:
            during, alive = self.step(index, done, alive)
            done |= 1 << index
            steps.append(during)
        return steps

    def step(self, index: int, done: int, alive: int) -> tuple[int, int]:
        """Bytes alive while kernel `index` runs after the set `done`, and after it."""
        kernel, done_after = self.kernels[index], done | 1 << index
        written = [self.allocations[a] for a in kernel.outputs]
        defined = sum(a.size for a in written if not a.from_start and not a.writers & done)
        dead = [a for a in kernel.allocations if self.is_dead(a, done_after)]
        freed = sum(self.allocations[a].size for a in dead)
        if not defined or len(written) > 1:
            return alive + defined + kernel.scratch, alive + defined - freed
        output = written[0]
        last_used = [(d, self.allocations[a].size, back) for a, d, back in kernel.over if a in dead]
        under = sum(size for _, size, _ in last_used)
        during = alive - under + cover(output.size, last_used) + kernel.scratch
        return during, alive + output.size - freed

    def is_dead(self, allocation: int, done: int) -> bool:
        """True if nothing after the set `done` needs the allocation."""
        return not self.allocations[allocation].to_end and not self.allocations[allocation].users & ~done

    def alive(self, order: Sequence[int], step: int) -> tuple[set[str], set[str]]:
        """Names of the allocations that hold bytes at one step, and of those that later steps write to."""
        before, upto = sum(1 << k for k in order[:step]), sum(1 << k for k in order[: step + 1])
        alive = [
            a
            for a in self.allocations
            if (a.from_start or a.writers & upto) and (a.to_end or a.users & ~before)
        ]
        return {a.name for a in alive}, {a.name for a in alive if a.writers & ~upto}


def make_model(
    graph: Graph, layout: Layout, request: PlanRequest, safe_offset: Mapping[int, Mapping[str, SafeOffset]]
) -> MemoryModel:
    """The allocations and kernels of a layout; `safe_offset` is `overlap.safe_offsets` by node."""
    nodes = [k for k in range(len(graph.nodes)) if k not in layout.aliases]
    made_by = _makers(graph, layout, {node: k for k, node in enumerate(nodes)})
    inside: dict[str, list[str]] = {}
    for name, view in layout.views.items():
        inside.setdefault(view.allocation, []).append(name)
    names = list(inside)
    number = {name: k for k, name in enumerate(names)}
    writers, users = [0] * len(names), [0] * len(names)
    kernels: list[ScheduledKernel] = []
    for k, index in enumerate(nodes):
        node = graph.nodes[index]
        read = _read(graph, layout, index)
        outs = tuple(dict.fromkeys(number[layout.views[name].allocation] for name in node.outputs))
        touched = tuple(dict.fromkeys([*outs, *(number[layout.views[name].allocation] for name in read)]))
        for allocation in outs:
            writers[allocation] |= 1 << k
        for allocation in touched:
            users[allocation] |= 1 << k
        before = 0
        for name in graph.activations(node):
            before |= made_by[name]
        for rider in request.riders.get(index, ()):
            before |= 1 << nodes.index(rider)
        over = _over(graph, layout, index, safe_offset[index], number, request)
        scratch = _round(request.scratch.get(index, 0), request.align)
        kernels.append(
            ScheduledKernel(
                index,
                outs,
                touched,
                over,
                scratch,
                before & ~(1 << k),
                at_once=node.at_once,
                alone=node.alone,
            )
        )
    allocations = tuple(
        _allocation(graph, request, name, tuple(inside[name]), writers[k], users[k])
        for k, name in enumerate(names)
    )
    ordered = _after_old_states(graph, layout, number, users, writers, _late(graph, kernels))
    return MemoryModel(allocations, ordered)


def _late(graph: Graph, kernels: Sequence[ScheduledKernel]) -> tuple[ScheduledKernel, ...]:
    """The kernels; those that bring something back from slow memory do so only when what else their first
    reader needs is there. Before that it would only take bytes, and there would be many orders to look at."""
    found = list(kernels)
    inputs = [graph.nodes[kernel.node].inputs for kernel in kernels]
    pages = [k for k, names in enumerate(inputs) if not graph.paged.isdisjoint(names)]
    others = ~sum(1 << k for k in pages)
    for k in pages:
        first = next((kernel for kernel in kernels if kernel.before >> k & 1), None)
        if first is not None:
            found[k] = replace(found[k], before=found[k].before | first.before & others)
    return tuple(found)


def _after_old_states(
    graph: Graph,
    layout: Layout,
    number: Mapping[str, int],
    users: Sequence[int],
    writers: Sequence[int],
    kernels: Sequence[ScheduledKernel],
) -> tuple[ScheduledKernel, ...]:
    """The kernels; those that write a state's new value run after all that read the old one."""
    found = list(kernels)
    for state in graph.states:
        old, new = (number[layout.views[name].allocation] for name in (state.begin, state.end))
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
    position = {kernel: step for step, kernel in enumerate(order)}
    end = max(1, len(order))
    buffers: list[Buffer] = []
    lives: list[Span] = []
    for allocation in model.allocations:
        steps = [position[k] for k in bits(allocation.users)]
        lo = 0 if allocation.from_start else min((position[k] for k in bits(allocation.writers)), default=0)
        hi = end if allocation.to_end else max(steps, default=0) + 1
        lives.append(Span(lo, hi))
        regions = (External(allocation.name),) if allocation.external else request.regions
        buffers.append(
            Buffer(allocation.name, allocation.kind, allocation.bytes, lives[-1], regions, allocation.align)
        )
    overlaps: list[Overlap] = []
    scratch: dict[int, str] = {}
    taken = {b.name for b in buffers}
    for step, index in enumerate(order):
        kernel = model.kernels[index]
        if (
            kernel.over
            and lives[kernel.output].lo == step
            and not model.allocations[kernel.output].from_start
        ):
            last_used = [
                o for o in kernel.over if lives[o[0]].hi == step + 1 and not model.allocations[o[0]].to_end
            ]
            for allocation, d, back in last_used:
                names = model.allocations[kernel.output].name, model.allocations[allocation].name
                overlaps.append(Overlap(step, *names, d, back if len(last_used) == 1 else None))
        if kernel.scratch:
            name = f"scratch{kernel.node}"
            while name in taken:  # a tensor of the model may be called anything
                name += "_"
            taken.add(name)
            scratch[kernel.node] = name
            buffers.append(
                Buffer(
                    name,
                    BufferKind.SCRATCH,
                    kernel.scratch,
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


def _makers(graph: Graph, layout: Layout, kernel_of: Mapping[int, int]) -> dict[str, int]:
    """For each tensor, the kernels that must have run before it is complete."""
    made: dict[str, int] = dict.fromkeys(graph.tensors, 0)
    for index, node in enumerate(graph.nodes):
        if index in layout.aliases:
            for name in node.inputs:
                made[node.output] |= made[name]
        else:
            made |= dict.fromkeys(node.outputs, 1 << kernel_of[index])
    return made


def _over(
    graph: Graph,
    layout: Layout,
    index: int,
    safe_offset: Mapping[str, SafeOffset],
    number: Mapping[str, int],
    request: PlanRequest,
) -> tuple[tuple[int, int, int | None], ...]:
    """Allocations that the node's output may be written over; both must be whole tensors, back to back."""
    external = request.external(graph)
    node = graph.nodes[index]
    if node.at_once:
        return ()
    if not _is_whole(graph, layout, node.output) or node.output in external:
        return ()
    found: dict[str, SafeOffset] = {}
    barred: set[str] = {layout.views[node.output].allocation}
    for name in _read(graph, layout, index):
        allocation = layout.views[name].allocation
        if not _is_whole(graph, layout, name) or allocation in external:
            barred.add(allocation)
        found[allocation] = safe_offset[name].join(found.get(allocation, safe_offset[name]))
    own = _align(graph, request, node.output)  # two offsets differ by a multiple of the smaller alignment
    align = {name: min(own, _align(graph, request, name)) for name in found}
    return tuple(
        (
            number[allocation],
            _round(d.forward, align[allocation]),
            _round(d.backward, align[allocation]) if request.may_run_backward(index) else None,
        )
        for allocation, d in found.items()
        if allocation not in barred
    )


def _is_whole(graph: Graph, layout: Layout, name: str) -> bool:
    view, tensor = layout.views[name], graph.tensors[name]
    allocation = graph.tensors[view.allocation]
    same = tensor.bytes == allocation.bytes and view.offset == 0
    contiguous = dense(tensor.shape, tensor.dtype.size)
    return same and all(
        extent == 1 or a == b for extent, a, b in zip(tensor.shape, view.strides, contiguous, strict=True)
    )


def _allocation(
    graph: Graph, request: PlanRequest, name: str, inside: tuple[str, ...], writers: int, users: int
) -> Allocation:
    external = name in request.external(graph)
    is_input = any(t in graph.input_names for t in inside)
    is_output = any(t in graph.output_names for t in inside)
    align = _align(graph, request, name)
    size = _round(graph.tensors[name].bytes, align)
    return Allocation(
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
