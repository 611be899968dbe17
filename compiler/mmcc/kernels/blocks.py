# SPDX-License-Identifier: Apache-2.0
"""A node's constants in blocks: what a block of some output channels holds, and the kernel it is packed for.

A block has all that some output channels of a node need, packed as the node's kernel wants it for just these
channels. Which operands have an axis of output channels is asked of the op's loops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmcc.ir.channels import channel_axes
from mmcc.ir.graph import Graph
from mmcc.ir.nest import Span
from mmcc.ir.plan import Blocks, aligned
from mmcc.ir.program import Constant, Field, KernelUse, View
from mmcc.kernels.select import Operand, Site, kernel_use


@dataclass(frozen=True, slots=True)
class PackedBlock:
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


def pack_block(use: KernelUse) -> PackedBlock:
    """Constants one behind the other; equal ones are not shared, so that all blocks of a node look alike."""
    offsets: dict[str, int] = {}
    constants = constants_of(use)
    end = 0
    for constant in constants:
        offsets[constant.name] = -(-end // constant.align) * constant.align
        end = offsets[constant.name] + constant.data.nbytes
    return PackedBlock(offsets, constants, aligned(end))


def part(graph: Graph, index: int, site: Site, begin: int, end: int) -> Site:
    """The site of a node for output channels [begin, end); where its output is, is not changed."""
    axes = channel_axes(graph, graph.nodes[index]) or {}
    inputs = tuple(
        _take(operand, axes[k], begin, end) if k in axes else operand for k, operand in enumerate(site.inputs)
    )
    shape = (*site.output.shape[:-1], end - begin)
    output = replace(site.output, tensor=replace(site.output.tensor, shape=shape))
    return replace(site, inputs=inputs, outputs=(output,))


def part_of(graph: Graph, index: int, site: Site, channels: Span) -> Site:
    """The site of a node for some output channels, and these where they are in the whole output."""
    found, dtype = part(graph, index, site, channels.lo, channels.hi), site.output.tensor.dtype
    where = site.output.where()
    assert isinstance(where.offset, int), "an output is not a constant"
    view = replace(where, offset=where.offset + dtype.bytes(channels.lo))
    label = f"{site.label}_from_{channels.lo}" if channels.lo else site.label  # constants' names begin so
    return replace(found, label=label, outputs=(replace(found.output, view=view),))


def _take(operand: Operand, axis: int, begin: int, end: int) -> Operand:
    data = operand.constant().take(range(begin, end), axis=axis) if axis else operand.constant()[begin:end]
    return Operand(replace(operand.tensor, shape=data.shape), None, np.ascontiguousarray(data))


def block_uses(
    graph: Graph, index: int, site: Site, channels: int, which: Sequence[int] | None = None
) -> Iterator[KernelUse]:
    """The kernel of each block of so many channels of a node, or of some blocks."""
    every = graph.tensors[graph.nodes[index].output].shape[-1]
    for k in range(-(-every // channels)) if which is None else which:
        sliced = part(graph, index, site, k * channels, min((k + 1) * channels, every))
        yield kernel_use(graph.nodes[index].op, sliced)


def blocks_to_pack(graph: Graph, index: int, channels: int) -> Sequence[int]:
    """Blocks that may be packed in other ways: of floats, which are only moved, the first and the last."""
    every = range(-(-graph.tensors[graph.nodes[index].output].shape[-1] // channels))
    floats = all(
        graph.tensors[name].dtype.is_float for name in graph.nodes[index].inputs if graph.is_constant(name)
    )
    return sorted({every[0], every[-1]}) if floats else every


def kernels_of(
    graph: Graph, index: int, site: Site, blocks: Blocks
) -> tuple[list[KernelUse], tuple[int, ...]]:
    """The different kernels that a node's blocks are packed for, and for each block which one it is."""
    looked_at = blocks_to_pack(graph, index, blocks.channels)
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


def _labelled(use: KernelUse, kind: int) -> KernelUse:
    """The kernel with constants of other names, since in its blocks they lie elsewhere."""

    def labelled(value: Field) -> Field:
        if isinstance(value, View) and isinstance(value.offset, Constant):
            return replace(value, offset=replace(value.offset, name=f"{value.offset.name}_{kind}"))
        return replace(value, name=f"{value.name}_{kind}") if isinstance(value, Constant) else value

    return replace(use, fields=tuple((name, labelled(value)) for name, value in use.fields))
