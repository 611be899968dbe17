# SPDX-License-Identifier: Apache-2.0
"""Which channels of each tensor must be computed: those that some reader needs, and those tied to them.

A layer needs a channel of its input if a weight on it is not zero, unless the channel is constant and the
layer can have what it adds in the bias: everywhere, if it is the zero point, which a tap beside the image is
too; else only where no tap is ever beside the image. Other operators keep or leave a channel in operands and
result together. What nobody needs is left out, whether it is constant or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node
from mmcc.ir.storage import Storage
from mmcc.ops.affine import AffineInt8
from mmcc.ops.conv import ConvInt8
from mmcc.ops.elementwise_int8 import AddInt8, Lookup, MulInt8
from mmcc.ops.int8_to_float import ConvInt8ToFloat
from mmcc.ops.movement import Concat, Expand, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePoolInt8, MaxPool
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.resize import ResizeInt8, ResizeNearest
from mmcc.passes.dead_channels.layers import Layer, centred, taps_of
from mmcc.passes.dead_channels.values import Range

Mask = NDArray[np.bool_]
PLAIN = (Lookup, AffineInt8, AveragePoolInt8, MaxPool, ResizeNearest, ResizeInt8)
PAIRS = (AddInt8, MulInt8)
WORD = 4  # channels of int8
MOST_WEIGHTS = 1 << 26  # of a layer that is looked at


def is_depthwise(graph: Graph, node: Node) -> bool:
    """True of a convolution in which each channel of the result is made of one channel of the input."""
    op = node.op
    if not isinstance(op, (ConvInt8, ConvInt8ToFloat)) or op.groups == 1:
        return False
    w = graph.tensors[node.inputs[1]].shape
    return w[3] == 1 and w[0] == op.groups


def is_free(graph: Graph, node: Node) -> bool:
    """True of a layer whose inputs' channels may be left out one by one."""
    op = node.op
    return isinstance(op, Layer) and getattr(op, "groups", 1) == 1 and _constants_known(graph, node)


def _constants_known(graph: Graph, node: Node) -> bool:
    return all(graph.is_constant(name) for name in node.inputs[1:])


class Needs:
    """By tensor, the channels that are kept; it grows until every reader has what it needs."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Range]) -> None:
        self._graph, self._ranges = graph, ranges
        self.kept: dict[str, Mask] = {
            name: np.zeros(graph.tensors[name].shape[-1], bool)
            for name in graph.tensors
            if name in ranges and graph.storage(name) is Storage.ACTIVATION
        }
        self._weights: dict[str, Mask] = {}  # by result of a layer [OC, IC]: some weight is not zero
        self._changed = False

    def run(self) -> dict[str, Mask]:
        """The channels kept of every tensor of which some could be left out: at least one."""
        self._settle()
        for mask in self.kept.values():
            self._round_up(mask)
        self._settle()
        return self.kept

    @property
    def count(self) -> int:
        """Channels that are kept, of all tensors."""
        return sum(int(mask.sum()) for mask in self.kept.values())

    def _round_up(self, mask: Mask) -> None:
        """Keep one channel at least, and whole words where there were such: with parts of words, kernels are
        slower, and more of them are needed."""
        unit = WORD if len(mask) % WORD == 0 else 1
        count = int(mask.sum())
        more = max(unit, -(-count // unit) * unit) - count
        mask[np.flatnonzero(~mask)[:more]] = True

    def _foldable(self, node: Node) -> Mask:
        """Channels of a layer's input that are constant, and may be in its bias."""
        x = node.inputs[0]
        op: Any = node.op
        found = self._ranges[x]
        _, beside = taps_of(op, self._graph.tensors[x].shape)
        zero: Mask = np.equal(found.low, op.x_zero)
        return np.logical_and(found.constant, zero) if beside.any() else found.constant

    def _settle(self) -> None:
        self._changed = True
        while self._changed:
            self._changed = False
            for node in reversed(self._graph.nodes):
                self._demand(node)

    def _demand(self, node: Node) -> None:
        """Keep what a node needs."""
        if not any(name in self.kept for name in (*node.inputs, *node.outputs)):
            return
        if is_free(self._graph, node):
            self._keep(node.inputs[0], self._read(node))
        elif is_depthwise(self._graph, node) and _constants_known(self._graph, node):
            self._tie(node.inputs[0], node.output)
        else:
            tie = _TIES.get(type(node.op), _apart)
            if not tie(self, node):
                for name in (*node.inputs, *node.outputs):
                    self._keep(name, True)

    def _read(self, node: Node) -> Mask:
        """Channels of its input that a layer needs for those of its results that are kept."""
        op: Any = node.op
        rows = self.mask(node.output)
        if node.output not in self._weights:
            data = self._graph.constants[node.inputs[1]]
            if data.size > MOST_WEIGHTS:
                return np.ones(len(self.mask(node.inputs[0])), bool)
            self._weights[node.output] = (centred(op, data) != 0).any((1, 2))
        read: Mask = np.any(self._weights[node.output][rows], axis=0)
        folded: Mask = self._foldable(node)
        return read & ~folded

    # ---- what rules ask and do

    def mask(self, name: str) -> Mask:
        """Channels that are kept: all, where none may be left out."""
        if name in self.kept:
            return self.kept[name]
        return np.ones(self._graph.tensors[name].shape[-1:] or 1, bool)

    def _keep(self, name: str, more: Mask | bool) -> None:
        mask = self.kept.get(name)
        if mask is not None and (more & ~mask).any():
            mask |= more
            self._changed = True

    def _tie(self, *names: str) -> None:
        """The same channels of all of these."""
        together = np.logical_or.reduce([self.mask(name) for name in names])
        for name in names:
            self._keep(name, together)

    def plain(self, node: Node) -> bool:
        """Operand and result have the same channels."""
        self._tie(node.inputs[0], node.output)
        return True

    def mean(self, node: Node) -> bool:
        """As `plain`, if the channels are not summed up."""
        op: Any = node.op
        return len(self._graph.tensors[node.inputs[0]].shape) - 1 not in op.axes and self.plain(node)

    def pad(self, node: Node) -> bool:
        """As `plain`, if none is added."""
        op: Any = node.op
        return not op.before[-1] and not op.after[-1] and self.plain(node)

    def transpose(self, node: Node) -> bool:
        """As `plain`, if channels stay the last axis."""
        op: Any = node.op
        return op.perm[-1] == len(op.perm) - 1 and self.plain(node)

    def pair(self, node: Node) -> bool:
        """Operands with as many channels as the result are tied to it; one that is repeated is kept."""
        names = [name for name in node.inputs if not self._graph.is_constant(name)]
        count = self._graph.tensors[node.output].shape[-1:]
        tied = [name for name in names if self._graph.tensors[name].shape[-1:] == count]
        for name in names:
            if name not in tied:
                self._keep(name, True)
        self._tie(node.output, *tied)
        return True

    def concat(self, node: Node) -> bool:
        """Each operand has its own part of the result's channels; along another axis, all of them."""
        op: Any = node.op
        if op.axis != len(self._graph.tensors[node.output].shape) - 1:
            self._tie(node.output, *node.inputs)
            return True
        whole = self.mask(node.output).copy()
        start = 0
        for name in node.inputs:
            part = self.mask(name)
            whole[start : start + len(part)] |= part
            self._keep(name, whole[start : start + len(part)])
            start += len(part)
        self._keep(node.output, whole)
        return True

    def part(self, node: Node) -> bool:
        """Channels in a row are taken: those of the operand that are kept there are those of the result."""
        op: Any = node.op
        if not op.shape or op.steps[-1] != 1:
            return False
        start: int = op.starts[-1]
        there = slice(start, start + len(self.mask(node.output)))
        taken = self.mask(node.output) | self.mask(node.inputs[0])[there]
        more = np.zeros(len(self.mask(node.inputs[0])), bool)
        more[there] = taken
        self._keep(node.output, taken)
        self._keep(node.inputs[0], more)
        return True

    def expand(self, node: Node) -> bool:
        """As `plain`; of one channel that is repeated, any number."""
        return self._graph.tensors[node.inputs[0]].shape[-1] == 1 or self.plain(node)

    def reshape(self, node: Node) -> bool:
        """Where pixels are laid behind each other, a channel is one of each pixel."""
        x, y = (self.mask(name) for name in (node.inputs[0], node.output))
        if not len(x) or len(y) % len(x):
            return False
        channels = x | y.reshape(-1, len(x)).any(0)
        self._keep(node.inputs[0], channels)
        self._keep(node.output, np.tile(channels, len(y) // len(x)))
        return True


def _apart(_needs: Needs, _node: Node) -> bool:
    """Nothing is known: all channels are kept."""
    return False


_TIES: dict[type[Any], Callable[[Needs, Node], bool]] = {
    **dict.fromkeys(PLAIN, Needs.plain),
    **dict.fromkeys(PAIRS, Needs.pair),
    MeanInt8: Needs.mean,
    Pad: Needs.pad,
    Transpose: Needs.transpose,
    Concat: Needs.concat,
    Expand: Needs.expand,
    Slice: Needs.part,
    Reshape: Needs.reshape,
}
