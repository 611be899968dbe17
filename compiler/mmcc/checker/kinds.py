# SPDX-License-Identifier: Apache-2.0
"""Which of a node's kernels reads each block of its constants: the last block may have fewer channels."""

from __future__ import annotations

from collections.abc import Iterator

from mmcc.checker.replay import label
from mmcc.ir.graph import Graph
from mmcc.ir.plan import Blocks
from mmcc.ir.program import ProgramNode


def check_kinds(graph: Graph, node: ProgramNode, cut: Blocks) -> Iterator[str]:
    """Each block has a kernel, which makes as many channels as the block is for.

    Layers of several groups are in one block: their kernels know the channels of one group.
    """
    here, kernels = label(graph, node.index), [use for _, use in node.uses]
    if len(node.kinds) != (cut.count if cut.count > 1 else 1):
        yield f"{here} has {cut.count} blocks of constants, but kernels for {len(node.kinds)}"
        return
    read_by = sorted(set(node.kinds))
    if read_by != list(range(len(kernels))):
        yield f"{here} has {len(kernels)} kernels, but its blocks are read by numbers {read_by}"
        return
    if cut.count == 1:
        return
    channels = graph.tensors[graph.nodes[node.index].outputs[0]].shape[-1]
    for block, kind in enumerate(node.kinds):
        made, wanted = kernels[kind].channels, min(cut.channels, channels - block * cut.channels)
        if made is not None and made != wanted:
            yield f"a kernel of {here} makes {made} channels of block {block}, which is for {wanted}"
