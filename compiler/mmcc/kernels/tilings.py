# SPDX-License-Identifier: Apache-2.0
"""How a node's constants can be cut into blocks of output channels, for weights that lie in slow memory.

What a node's constants are is asked of its kernel: some make tables where the model has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mmcc.ir.channels import channel_axes
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Blocks
from mmcc.ir.program import View
from mmcc.ir.types import Tensor, geometry
from mmcc.kernels.blocks import block_uses, blocks_to_pack, pack_block
from mmcc.kernels.scratch import scratch_bytes
from mmcc.kernels.select import Operand, Site, kernel_use
from mmcc.target import Target

FEWEST = 4  # output channels of a block; kernels make so many at a time at least
PADDING = 1.2  # times the least bytes in which a node's constants lie, at most
FAR_ROWS = 2**24  # bytes from row to row, more than any kernel reaches with short offsets


def tilings(graph: Graph, index: int, target: Target, most: int) -> tuple[Blocks, ...]:
    """From few output channels in a block to all of them in one; blocks of over `most` bytes are of no use.

    A kernel that fills up few channels with zeros is given more.
    """
    found = {blocks.bytes: blocks for blocks in _cuts(graph, index, target, most)}  # of equal size: the last
    least = min((blocks.total for blocks in found.values()), default=0)
    return tuple(blocks for blocks in found.values() if blocks.total <= PADDING * least)


def _cuts(graph: Graph, index: int, target: Target, most: int) -> Iterator[Blocks]:
    node = graph.nodes[index]
    site = planning_site(graph, index, target)
    shape = graph.tensors[node.outputs[0]].shape
    channels = shape[-1] if shape else 1
    raw = sum(graph.constants[name].nbytes for name in node.inputs if graph.is_constant(name))
    some, parts = FEWEST, channel_axes(graph, graph.nodes[index]) is not None
    while parts and some < channels:
        ends = blocks_to_pack(graph, index, some)
        sizes = [pack_block(use).size for use in block_uses(graph, index, site, some, ends)]
        if max(sizes) > most and some > FEWEST:
            return
        yield Blocks(some, -(-channels // some), max(sizes), sizes[-1])
        some *= 2
    if raw <= most or some == FEWEST:
        size = whole_size(graph, index, target)
        if size:
            yield Blocks(channels, 1, size, size)


def whole_size(graph: Graph, index: int, target: Target) -> int:
    """Bytes of a node's constants in one block, wherever its tensors are: some kernels do not reach rows that
    lie far apart, as in a Concat's buffer, and the one that takes their place may pack in another way."""
    site = planning_site(graph, index, target)
    inputs = tuple(
        replace(x, view=replace(x.view, row_stride=FAR_ROWS)) if x.view is not None else x
        for x in site.inputs
    )
    op = graph.nodes[index].op
    return max(pack_block(kernel_use(op, where)).size for where in (site, replace(site, inputs=inputs)))


def planning_site(graph: Graph, index: int, target: Target, *, lent: bool = False, room: int = 0) -> Site:
    """A node as if all its tensors were whole and dense: no kernel packs more for a block of some channels
    where they are not. With `lent`, its kernel has memory to work in, even if it needs none; with `room`, so
    many bytes, and it runs alone."""
    node = graph.nodes[index]
    works = lent or scratch_bytes(graph, node) > 0
    inputs = tuple(_planning_operand(graph, name) for name in node.inputs)
    outputs = tuple(_planning_operand(graph, name) for name in node.outputs)
    scratch = View("sram", 0, 0, 0, 1) if works else None
    return Site(
        f"n{index}", inputs, outputs, target, scratch=scratch, room=room, handoff=node.handoff, alone=room > 0
    )


def _planning_operand(graph: Graph, name: str) -> Operand:
    tensor: Tensor = graph.tensors[name]
    if graph.is_constant(name):
        return Operand(tensor, None, graph.constants[name])
    rows, cols, channels = geometry(tensor.shape)
    return Operand(tensor, View("sram", 0, tensor.dtype.bytes(cols * channels), channels, rows), None)
