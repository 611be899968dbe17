# SPDX-License-Identifier: Apache-2.0
"""Constants of nodes in blocks, for models whose weights lie in slow memory: sizes, bytes, and code.

A block has all that some output channels of a node need, packed as the node's kernel wants it for just these
channels. Which operands have an axis of output channels is asked of the op's loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmcc.ir.graph import Graph
from mmcc.ir.nest import Nest, Span
from mmcc.ir.plan import Blocks, Buffer, BufferKind, Place, Plan, Staged
from mmcc.ir.program import Constant, Field, KernelUse, View
from mmcc.ir.types import Tensor, geometry
from mmcc.kernels.select import Operand, Site, kernel_use
from mmcc.planner.fusion.schedule import nest_of
from mmcc.planner.request import Staging
from mmcc.planner.streaming.blocks import ALIGN, aligned
from mmcc.target import Target

FEWEST = 4  # output channels of a block; kernels make so many at a time at least
PADDING = 1.2  # times the least bytes in which a node's constants lie, at most
FAR_ROWS = 2**24  # bytes from row to row, more than any kernel reaches with short offsets
SLICE = "slice"  # the memory in which the output channels of the block at hand begin


@dataclass(frozen=True, slots=True)
class Layout:
    """Constants of one block: each one's first byte, and the bytes of all."""

    offsets: dict[str, int]
    constants: tuple[Constant, ...]
    size: int

    def to_bytes(self) -> bytes:
        """The block as it lies in a little-endian memory."""
        block = bytearray(self.size)
        for constant in self.constants:
            raw = constant.data.astype(constant.data.dtype.newbyteorder("<"), copy=False).tobytes()
            at = self.offsets[constant.name]
            block[at : at + len(raw)] = raw
        return bytes(block)


def constants_of(use: KernelUse) -> tuple[Constant, ...]:
    """The constants among a kernel's fields, those in views too."""
    found: list[Constant] = []
    for _, value in use.fields:
        if isinstance(value, Constant):
            found.append(value)
        elif isinstance(value, View) and isinstance(value.offset, Constant):
            found.append(value.offset)
    return tuple(found)


def lay_out_block(use: KernelUse) -> Layout:
    """Constants one behind the other; equal ones are not shared, so that all blocks of a node look alike."""
    offsets: dict[str, int] = {}
    constants = constants_of(use)
    end = 0
    for constant in constants:
        offsets[constant.name] = -(-end // constant.align) * constant.align
        end = offsets[constant.name] + constant.data.nbytes
    return Layout(offsets, constants, aligned(end))


def channel_axes(graph: Graph, index: int) -> dict[int, int] | None:
    """By constant operand, its axis of output channels; None if a node's output cannot be made in parts."""
    node = graph.nodes[index]
    nest: Nest = nest_of(graph, node)
    last = nest.write.index[-1] if nest.write.index else None
    loop = last.loop if last is not None else None
    if loop is None or not nest.multiplies:
        return None
    axes: dict[int, int] = {}
    for access in nest.reads:
        walked = [k for k, axis in enumerate(access.index) if axis is not None and _uses(axis, loop)]
        exact = [k for k in walked if (axis := access.index[k]) is not None and axis.loop == loop]
        if walked and (node.inputs[access.operand] not in graph.constants or exact != walked):
            return None
        if walked:
            axes[access.operand] = walked[0]
    return axes


def _uses(axis: object, loop: str) -> bool:
    terms = getattr(axis, "terms", None)
    return any(name == loop for name, _ in terms) if terms is not None else getattr(axis, "name", "") == loop


def part(graph: Graph, index: int, site: Site, begin: int, end: int) -> Site:
    """The site of a node for output channels [begin, end); where its output is, is not changed."""
    axes = channel_axes(graph, index) or {}
    inputs = tuple(
        _take(operand, axes[k], begin, end) if k in axes else operand for k, operand in enumerate(site.inputs)
    )
    shape = (*site.output.shape[:-1], end - begin)
    output = replace(site.output, tensor=replace(site.output.tensor, shape=shape))
    return replace(site, inputs=inputs, output=output)


def _take(operand: Operand, axis: int, begin: int, end: int) -> Operand:
    data = operand.constant().take(range(begin, end), axis=axis) if axis else operand.constant()[begin:end]
    return Operand(replace(operand.tensor, shape=data.shape), None, np.ascontiguousarray(data))


def staging(graph: Graph, target: Target, most: int) -> Staging:
    """How the constants of each node can be cut; blocks of more than `most` bytes are of no use.

    What a node's constants are is asked of its kernel: some make tables where the model has none.
    """
    ways = {index: tuple(_ways(graph, index, target, most)) for index in range(len(graph.nodes))}
    return Staging({index: found for index, found in ways.items() if found})


def _ways(graph: Graph, index: int, target: Target, most: int) -> list[Blocks]:
    """From few channels to all; a kernel that fills up few channels with zeros is given more."""
    found = {blocks.bytes: blocks for blocks in _cuts(graph, index, target, most)}  # of equal size: the last
    least = min((blocks.total for blocks in found.values()), default=0)
    return [blocks for blocks in found.values() if blocks.total <= PADDING * least]


def _cuts(graph: Graph, index: int, target: Target, most: int) -> Iterator[Blocks]:
    node = graph.nodes[index]
    site = _planning_site(graph, index, target)
    shape = graph.tensors[node.output].shape
    channels = shape[-1] if shape else 1
    raw = sum(graph.constants[name].nbytes for name in node.inputs if name in graph.constants)
    some, parts = FEWEST, channel_axes(graph, index) is not None
    while parts and some < channels:
        ends = _looked_at(graph, index, some)
        sizes = [lay_out_block(use).size for use in block_uses(graph, index, site, some, ends)]
        if max(sizes) > most and some > FEWEST:
            return
        yield Blocks(some, -(-channels // some), max(sizes), sizes[-1])
        some *= 2
    if raw <= most or some == FEWEST:
        size = _whole_size(graph, index, target)
        if size:
            yield Blocks(channels, 1, size, size)


def block_uses(
    graph: Graph, index: int, site: Site, channels: int, which: Sequence[int] | None = None
) -> Iterator[KernelUse]:
    """The kernel of each block of so many channels of a node, or of some blocks."""
    every = graph.tensors[graph.nodes[index].output].shape[-1]
    for k in range(-(-every // channels)) if which is None else which:
        sliced = part(graph, index, site, k * channels, min((k + 1) * channels, every))
        yield kernel_use(graph.nodes[index].op, sliced)


def _looked_at(graph: Graph, index: int, channels: int) -> Sequence[int]:
    """Blocks that may be packed in other ways: of floats, which are only moved, the first and the last."""
    every = range(-(-graph.tensors[graph.nodes[index].output].shape[-1] // channels))
    floats = all(
        graph.tensors[name].dtype.is_float for name in graph.nodes[index].inputs if name in graph.constants
    )
    return sorted({every[0], every[-1]}) if floats else every


def kernels_of(
    graph: Graph, index: int, site: Site, blocks: Blocks
) -> tuple[list[KernelUse], tuple[int, ...]]:
    """The different kernels that a node's blocks are packed for, and for each block which one it is."""
    looked_at = _looked_at(graph, index, blocks.channels)
    kinds: dict[object, int] = {}
    uses: list[KernelUse] = []
    found: dict[int, int] = {}
    for k, use in zip(looked_at, block_uses(graph, index, site, blocks.channels, looked_at), strict=True):
        numbers = tuple(value for _, value in use.fields if isinstance(value, int | float))
        kind = kinds.setdefault((use.template, use.options, numbers), len(kinds))
        found[k] = kind
        if kind == len(uses):
            uses.append(_labelled(use, kind) if kind else use)
    return uses, tuple(found.get(k, 0) for k in range(blocks.count))


def staged_for(graph: Graph, plan: Plan, target: Target) -> Plan:
    """The same plan for kernels of another target, which pack constants in other ways, or have others.

    Groups, loops, turns, blocks by their channels, what stays, and where tensors are do not change. Places
    that are too small for these kernels' blocks move above all others, each to bytes of its own.
    """
    tier = next(plan.places[name].tier for s in plan.staged.values() for name in s.buffers)
    end, buffers, places = plan.peak(tier), {b.name: b for b in plan.buffers}, dict(plan.places)
    staged: dict[int, Staged] = {}
    for step, group in enumerate(plan.groups):
        for index in group.nodes:
            known = plan.staged.get(index)
            blocks = _blocks_for(graph, index, target, known)
            if blocks is None:
                continue
            names = known.buffers if known is not None else (f"own{index}",)
            staged[index] = Staged(blocks, names)
            for name in names:
                new = Buffer(name, BufferKind.STAGED, 0, Span(step, step + 1), (tier,), ALIGN)
                buffer, size = buffers.get(name, new), aligned(blocks.bytes)
                if buffer.size < size:
                    buffers[name], places[name] = replace(buffer, size=size), Place(tier, aligned(end))
                    end = aligned(end) + size
    return replace(plan, buffers=tuple(buffers.values()), places=places, staged=staged)


def _blocks_for(graph: Graph, index: int, target: Target, known: Staged | None) -> Blocks | None:
    """A node's constants cut as another target's are; None if neither kernel has any."""
    site = _planning_site(graph, index, target)
    if known is not None and known.blocks.count > 1:
        channels = known.blocks.channels
        uses = block_uses(graph, index, site, channels, _looked_at(graph, index, channels))
        sizes = [lay_out_block(use).size for use in uses]
        return Blocks(channels, known.blocks.count, max(sizes), sizes[-1])
    size = _whole_size(graph, index, target)
    if known is not None:
        return replace(known.blocks, bytes=size, last=size) if size else known.blocks
    shape = graph.tensors[graph.nodes[index].output].shape
    return Blocks(shape[-1] if shape else 1, 1, size, size) if size else None


def _labelled(use: KernelUse, kind: int) -> KernelUse:
    """The same with names of constants of its own: they lie elsewhere in a block."""

    def labelled(value: Field) -> Field:
        if isinstance(value, View) and isinstance(value.offset, Constant):
            return replace(value, offset=replace(value.offset, name=f"{value.offset.name}_{kind}"))
        return replace(value, name=f"{value.name}_{kind}") if isinstance(value, Constant) else value

    return replace(use, fields=tuple((name, labelled(value)) for name, value in use.fields))


def _whole_size(graph: Graph, index: int, target: Target) -> int:
    """Bytes of a node's constants in one block, wherever its tensors are: some kernels do not reach rows that
    lie far apart, as in a Concat's buffer, and the one that takes their place may pack in another way."""
    site = _planning_site(graph, index, target)
    inputs = tuple(
        replace(x, view=replace(x.view, row_stride=FAR_ROWS)) if x.view is not None else x
        for x in site.inputs
    )
    op = graph.nodes[index].op
    return max(lay_out_block(kernel_use(op, where)).size for where in (site, replace(site, inputs=inputs)))


def _planning_site(graph: Graph, index: int, target: Target) -> Site:
    """A node as if all its tensors were whole and dense: no kernel packs more for a block of some channels
    where they are not."""
    node = graph.nodes[index]
    inputs = tuple(_planning_operand(graph, name) for name in node.inputs)
    return Site(f"n{index}", inputs, _planning_operand(graph, node.output), target)


def _planning_operand(graph: Graph, name: str) -> Operand:
    tensor: Tensor = graph.tensors[name]
    if name in graph.constants:
        return Operand(tensor, None, graph.constants[name])
    rows, cols, channels = geometry(tensor.shape)
    return Operand(tensor, View("sram", 0, cols * channels * tensor.dtype.size, channels, rows), None)
