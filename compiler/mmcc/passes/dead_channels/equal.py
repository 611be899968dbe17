# SPDX-License-Identifier: Apache-2.0
"""Channels that are always equal: a layer reads one of them, with the sum of their weights.

Value numbers: two channels get one number if they are made in the same way of channels with equal numbers, or
are constant with one value. So they hold the same integers at every pixel, for every input, and beside the
image, too. Where the weights of one fit into those of the other, a layer no longer needs it, and `needs.py`
finds that it can be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.graph import Graph, Node
from mmcc.ops.affine import AffineInt8
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.reduce import MeanInt8
from mmcc.passes.dead_channels.layers import centred
from mmcc.passes.dead_channels.needs import MOST_WEIGHTS, PAIRS, PLAIN, is_depthwise, is_free
from mmcc.passes.dead_channels.ranges import has_channels
from mmcc.passes.dead_channels.values import LEAST, MOST, Range
from mmcc.passes.draft import Draft, digest
from mmcc.passes.integer_layers import accumulator_bound

Array = NDArray[Any]
Numbers = NDArray[np.int64]  # by channel


def share_equal_channels(graph: Graph, ranges: Mapping[str, Range]) -> Graph:
    """The graph with weights moved to the first of equal channels; the same graph, if there are none."""
    numbers = ValueNumbers(graph, ranges).run()
    draft = Draft(graph)
    changed = False
    for node in graph.nodes:
        moved = _moved_weights(graph, node, numbers)
        if moved is None:
            draft.keep(node)
            continue
        changed = True
        x, _, *rest = node.inputs
        weights = draft.constant(moved, f"{node.output}_w")
        draft.write(node.op, (x, weights, *rest), node.output, node.where, graph.tensors[node.output].quant)
    return draft.graph() if changed else graph


def _moved_weights(graph: Graph, node: Node, numbers: Mapping[str, Numbers]) -> Array | None:
    """A layer's weights, those of equal channels added up as far as they fit; None if none are."""
    x = node.inputs[0] if node.inputs else ""
    if not is_free(graph, node) or x not in numbers:
        return None
    first = np.unique(numbers[x], return_index=True)[1]
    if len(first) == len(numbers[x]):
        return None
    op: Any = node.op
    data = graph.constants[node.inputs[1]]
    weights = centred(op, data)
    readers: dict[int, list[int]] = {}  # by number: channels that are read for all with it
    moved = False
    for channel, number in enumerate(numbers[x].tolist()):
        if not weights[..., channel].any():
            continue
        for other in readers.setdefault(number, []):
            both = weights[..., other] + weights[..., channel]
            if both.min() + op.w_zero >= LEAST and both.max() + op.w_zero <= MOST:
                weights[..., other], weights[..., channel], moved = both, 0, True
                break
        else:
            readers[number].append(channel)
    if not moved:
        return None
    made = (weights + op.w_zero).astype(data.dtype).reshape(data.shape)
    b = graph.constants[node.inputs[2]].astype(np.int64)
    old, new = (
        accumulator_bound(w, op.w_zero, b, op.x_zero, getattr(op, "bias_bits", 0)) for w in (data, made)
    )
    return made if new <= old else None  # it may grow where weights have a zero point


class ValueNumbers:
    """Numbers of the channels of all int8 tensors; what is not known to be equal has a number of its own."""

    def __init__(self, graph: Graph, ranges: Mapping[str, Range]) -> None:
        self._graph, self._ranges = graph, ranges
        self._known: dict[Hashable, int] = {}
        self._count = 0
        self.numbers: dict[str, Numbers] = {}

    def run(self) -> dict[str, Numbers]:
        """By tensor, the numbers of its channels."""
        graph = self._graph
        for name in graph.given:
            if has_channels(graph, name):
                self.numbers[name] = self._unlike(name)
        for node in graph.nodes:
            for name in node.outputs:
                if has_channels(graph, name):
                    self.numbers[name] = self._constant(name, self._made(node, name))
        return self.numbers

    def number(self, made: Hashable) -> int:
        """The number of what is made in this way."""
        if made not in self._known:
            self._known[made] = self._next()
        return self._known[made]

    def _next(self) -> int:
        self._count += 1
        return self._count

    def channels(self, name: str) -> int:
        return self._graph.tensors[name].shape[-1]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._graph.tensors[name].shape

    def data(self, name: str) -> Array:
        return self._graph.constants[name]

    def _unlike(self, name: str) -> Numbers:
        return np.array([self._next() for _ in range(self.channels(name))], np.int64)

    def _constant(self, name: str, found: Numbers) -> Numbers:
        """Channels of one value have the number of that value."""
        low, constant = self._ranges[name].low, self._ranges[name].constant
        for k in np.flatnonzero(constant):
            found[k] = self.number(("constant", self.shape(name)[:-1], int(low[k])))
        return found

    def _made(self, node: Node, name: str) -> Numbers:
        rule = _depthwise if is_depthwise(self._graph, node) else _RULES.get(type(node.op))
        found = None
        if rule is not None and len(node.outputs) == 1 and self.of(node.inputs[0]) is not None:
            found = rule(self, node)
        return self._unlike(name) if found is None else np.array(found, np.int64)

    def of(self, name: str) -> Numbers | None:
        """Numbers of an operand, which may be a constant; None if its channels have none."""
        if name in self.numbers or not (self._graph.is_constant(name) and has_channels(self._graph, name)):
            return self.numbers.get(name)
        each = np.moveaxis(self.data(name), -1, 0)
        found = [self.number(("data", each.shape[1:], digest(part))) for part in each]
        self.numbers[name] = np.array(found, np.int64)
        return self.numbers[name]

    def each(self, how: Hashable, x: str) -> list[int]:
        """Channels that are all made in one way of those of an operand, each of one."""
        return [self.number((how, number)) for number in self.numbers[x].tolist()]

    def all_constant(self, names: tuple[str, ...]) -> bool:
        return all(map(self._graph.is_constant, names))


Rule = Callable[[ValueNumbers, Node], list[int] | None]


def _layer(known: ValueNumbers, node: Node) -> list[int] | None:
    """A layer's channels are equal if they have equal sums of weights for each number."""
    op: Any = node.op
    x, *constants = node.inputs
    if getattr(op, "groups", 1) != 1 or not known.all_constant(tuple(constants)):
        return None
    w, b, *scale = (known.data(name) for name in constants)
    if w.size > MOST_WEIGHTS:
        return None
    order = np.argsort(known.numbers[x], kind="stable")
    unlike, starts = np.unique(known.numbers[x][order], return_index=True)
    sums: Array = np.add.reduceat(centred(op, w)[..., order], starts, axis=-1)
    inputs = (op, known.shape(x), unlike.tobytes())
    return [
        known.number((inputs, digest(sums[k]), *(int(part[k]) for part in (b, *scale))))
        for k in range(len(w))
    ]


def _depthwise(known: ValueNumbers, node: Node) -> list[int] | None:
    x, *constants = node.inputs
    if not known.all_constant(tuple(constants)):
        return None
    data = [known.data(name) for name in constants]
    numbers = known.numbers[x].tolist()
    return [known.number((node.op, n, *(digest(d[k]) for d in data))) for k, n in enumerate(numbers)]


def _plain(known: ValueNumbers, node: Node) -> list[int] | None:
    """One function for all channels."""
    x, *tables = node.inputs
    if not known.all_constant(tuple(tables)):
        return None
    return known.each((node.op, *(digest(known.data(name)) for name in tables)), x)


def _pair(known: ValueNumbers, node: Node) -> list[int] | None:
    """Each channel is made of one of each operand."""
    parts = [known.of(name) for name in node.inputs]
    count = known.channels(node.output)
    if any(part is None or len(part) != count for part in parts):
        return None
    columns = [part.tolist() for part in parts if part is not None]
    return [known.number((node.op, *key)) for key in zip(*columns, strict=True)]


def _affine(known: ValueNumbers, node: Node) -> list[int] | None:
    x, *constants = node.inputs
    count = known.channels(x)
    if not known.all_constant(tuple(constants)):
        return None
    data = [np.broadcast_to(known.data(name), (count,)) for name in constants]
    numbers = known.numbers[x].tolist()
    return [known.number((node.op, n, *(int(d[k]) for d in data))) for k, n in enumerate(numbers)]


def _mean(known: ValueNumbers, node: Node) -> list[int] | None:
    op: Any = node.op
    x = node.inputs[0]
    return None if len(known.shape(x)) - 1 in op.axes else known.each(op, x)


def _concat(known: ValueNumbers, node: Node) -> list[int] | None:
    op: Any = node.op
    if op.axis != len(known.shape(node.output)) - 1:
        return _pair(known, node)
    parts = [known.of(name) for name in node.inputs]
    if any(part is None for part in parts):
        return None
    return [number for part in parts if part is not None for number in part.tolist()]


def _slice(known: ValueNumbers, node: Node) -> list[int] | None:
    op: Any = node.op
    numbers = known.numbers[node.inputs[0]]
    taken = op.starts[-1] + op.steps[-1] * np.arange(known.channels(node.output))
    how = ("slice", op.starts[:-1], op.steps[:-1], op.shape[:-1])
    return [known.number((how, number)) for number in numbers[taken].tolist()]


def _pad(known: ValueNumbers, node: Node) -> list[int] | None:
    op: Any = node.op
    return None if op.before[-1] or op.after[-1] else known.each(op, node.inputs[0])


def _transpose(known: ValueNumbers, node: Node) -> list[int] | None:
    op: Any = node.op
    return known.each(op, node.inputs[0]) if op.perm[-1] == len(op.perm) - 1 else None


def _gather(known: ValueNumbers, node: Node) -> list[int] | None:
    op: Any = node.op
    x = node.inputs[0]
    if op.axis != len(known.shape(x)) - 1:
        return known.each(op, x)
    return known.numbers[x][np.array(op.indices)].reshape(-1).tolist()


def _expand(known: ValueNumbers, node: Node) -> list[int] | None:
    """One channel that is repeated is as many equal ones."""
    made = known.each((Expand, known.shape(node.output)[:-1]), node.inputs[0])
    return made if len(made) == known.channels(node.output) else made * known.channels(node.output)


def _reshape(known: ValueNumbers, node: Node) -> list[int] | None:
    """Where pixels are laid behind each other, a channel is one of each pixel."""
    x, y = known.shape(node.inputs[0]), known.shape(node.output)
    if y[-1] % x[-1]:
        return None
    each = known.numbers[node.inputs[0]].tolist()
    pixels = range(y[-1] // x[-1])
    return [known.number(("reshape", x[:-1], y, pixel, number)) for pixel in pixels for number in each]


_RULES: dict[type[Any], Rule] = {
    **dict.fromkeys((ConvInt8, DenseInt8), _layer),
    **dict.fromkeys(PLAIN, _plain),
    **dict.fromkeys(PAIRS, _pair),
    AffineInt8: _affine,
    MeanInt8: _mean,
    Concat: _concat,
    Slice: _slice,
    Pad: _pad,
    Transpose: _transpose,
    Gather: _gather,
    Expand: _expand,
    Reshape: _reshape,
}
