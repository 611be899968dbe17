# SPDX-License-Identifier: Apache-2.0
"""The least and the largest value of each channel of each int8 tensor, over all inputs that there are.

Channels are the last axis. Inputs take every value. What is not known of an operator leaves its result every
value that its clamp lets through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph, Node
from mmcc.ir.types import Shape
from mmcc.ops.affine import AffineInt8
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.ops.elementwise_int8 import EVERY, AddInt8, Lookup, MulInt8
from mmcc.ops.movement import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePoolInt8, MaxPool, window_counts
from mmcc.ops.reduce import MeanInt8
from mmcc.ops.resize import ResizeInt8, ResizeNearest
from mmcc.passes.dead_channels.layers import layer_range
from mmcc.passes.dead_channels.values import LEAST, MOST, Range, computed, joined, requantized

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Case:
    """A node with one result: shapes of its first operand and its result, ranges and data of operands."""

    op: Any
    x: Shape
    y: Shape
    ranges: list[Range]  # of int8 operands that have channels
    constants: list[Array]  # behind the first operand


Rule = Callable[[_Case], Range | None]
_RULES: dict[type[Any], Rule] = {}


def channel_ranges(graph: Graph) -> dict[str, Range]:
    """The ranges of all int8 tensors that have channels."""
    found: dict[str, Range] = {}
    for name, data in graph.constants.items():
        if has_channels(graph, name):
            flat = data.reshape(-1, data.shape[-1]).astype(np.int64)
            found[name] = Range(flat.min(0), flat.max(0))
    for name in graph.given:
        if has_channels(graph, name):
            found[name] = _any(graph.tensors[name].shape)
    for node in graph.nodes:
        for name in node.outputs:
            if has_channels(graph, name):
                made = _made(graph, node, found) if len(node.outputs) == 1 else None
                found[name] = made or _any(graph.tensors[name].shape)
    return found


def has_channels(graph: Graph, name: str) -> bool:
    """True of int8 tensors that are no scalars, and not empty."""
    tensor = graph.tensors[name]
    return tensor.dtype == ElementType.I8 and len(tensor.shape) > 0 and 0 not in tensor.shape


def _any(shape: Shape, low: int = LEAST, high: int = MOST) -> Range:
    return Range(np.full(shape[-1], low, np.int64), np.full(shape[-1], high, np.int64))


def _made(graph: Graph, node: Node, found: dict[str, Range]) -> Range | None:
    """The range of a node's result; None if nothing is known of it."""
    y = graph.tensors[node.output].shape
    case = _Case(
        node.op,
        graph.tensors[node.inputs[0]].shape if node.inputs else (),
        y,
        [found[name] for name in node.inputs if has_channels(graph, name)],
        [graph.constants[name] for name in node.inputs[1:] if graph.is_constant(name)],
    )
    rule = _RULES.get(type(node.op))
    if rule is not None and case.ranges and case.x:
        return rule(case)
    bounded: Any = node.op
    return _any(y, bounded.low, bounded.high) if node.op.traits.saturates else None


def _rule(*ops: type[Any]) -> Callable[[Rule], Rule]:
    """Register the ranges of these operators' results."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


# ---- operators that compute


@_rule(ConvInt8, DenseInt8)
def _layer(case: _Case) -> Range | None:
    return layer_range(case.op, case.x, case.ranges[0], case.constants) if len(case.constants) == 4 else None


@_rule(Lookup)
def _lookup(case: _Case) -> Range | None:
    table = case.constants[0].astype(np.int64)
    return _of_table(np.repeat(table[:, None], case.y[-1], 1), case.ranges[0])


@_rule(AffineInt8)
def _affine(case: _Case) -> Range | None:
    every = np.broadcast_to(EVERY[:, None], (len(EVERY), case.y[-1]))
    return _of_table(case.op.reference(every, *case.constants)[0].astype(np.int64), case.ranges[0])


def _of_table(table: NDArray[np.int64], x: Range) -> Range:
    """The range of a function that is known for every input: `table` [256, C]."""
    every = np.arange(LEAST, MOST + 1)[:, None]
    reached = (every >= x.low) & (every <= x.high)
    return Range(np.where(reached, table, MOST).min(0), np.where(reached, table, LEAST).max(0))


@_rule(AddInt8, MulInt8)
def _at_corners(case: _Case) -> Range | None:
    """A sum or product, which is least and largest where each operand is at an end of its range."""
    if len(case.ranges) != 2:
        return _any(case.y, case.op.low, case.op.high)
    ends = [(r.low.astype(np.int8), r.high.astype(np.int8)) for r in case.ranges]
    made = joined([computed(case.op, a, b) for a, b in product(*ends)])
    return made.map(lambda end: np.broadcast_to(end, case.y[-1:]))


@_rule(AveragePoolInt8)
def _average(case: _Case) -> Range | None:
    op = case.op
    counts = [window_counts(op.window, pads, case.x) for pads in ((0, 0, 0, 0), op.counted)]
    return _summed(op, counts, case.ranges[0], case.constants)


@_rule(MeanInt8)
def _mean(case: _Case) -> Range | None:
    op = case.op
    if len(case.x) - 1 in op.axes:
        return _any(case.y, op.low, op.high)
    axes: tuple[int, ...] = op.axes
    count = np.array([prod(case.x[axis] for axis in axes)])
    return _summed(op, [count, count], case.ranges[0], [np.array([op.multiplier]), np.array([op.shift])])


def _summed(op: AveragePoolInt8 | MeanInt8, counts: list[Array], x: Range, scale: list[Array]) -> Range:
    """Sums of as many elements as are in each window, scaled by how many count."""
    multiplier, shift = scale
    pairs = np.unique(np.stack([c.reshape(-1) for c in counts], 1), axis=0)
    entry = pairs[:, 1:] - 1 if len(multiplier) > 1 else np.zeros_like(pairs[:, 1:])
    ends = [pairs[:, :1] * (end - op.x_zero) for end in (x.low, x.high)]
    return requantized(op, [(end, multiplier[entry], shift[entry]) for end in ends])


@_rule(ResizeInt8)
def _resized(case: _Case) -> Range | None:
    """Sums with weights that are not negative: least and largest where all elements are."""
    if any(table.min() < 0 for table in case.constants):
        return _any(case.y, case.op.low, case.op.high)
    made: list[tuple[Array, Array]] = []
    for end in (case.ranges[0].low, case.ranges[0].high):
        values, back = np.unique(end, return_inverse=True)
        image = np.broadcast_to(values, (*case.x[:2], len(values))).astype(np.int8)
        low, high = computed(case.op, image, *case.constants)
        made.append((low[..., back], high[..., back]))
    return joined(made)


# ---- operators that move elements


@_rule(Concat)
def _concat(case: _Case) -> Range | None:
    if case.op.axis != len(case.x) - 1:
        return joined([(r.low, r.high) for r in case.ranges])
    return Range(*(np.concatenate([getattr(r, end) for r in case.ranges]) for end in ("low", "high")))


@_rule(Slice)
def _slice(case: _Case) -> Range | None:
    taken = case.op.starts[-1] + case.op.steps[-1] * np.arange(case.y[-1])
    return case.ranges[0].map(lambda end: end[taken])


@_rule(Pad)
def _pad(case: _Case) -> Range | None:
    op = case.op
    more = op.before[-1], op.after[-1]
    if op.mode != "constant":
        return None if any(more) else case.ranges[0]
    grown = case.ranges[0].map(lambda end: np.pad(end, more, constant_values=int(op.value)))
    if not any((*op.before[:-1], *op.after[:-1])):
        return grown
    return Range(np.minimum(grown.low, int(op.value)), np.maximum(grown.high, int(op.value)))


@_rule(Gather)
def _gather(case: _Case) -> Range | None:
    taken = np.array(case.op.indices)
    return case.ranges[0].map(lambda end: end[taken]) if case.op.axis == len(case.x) - 1 else case.ranges[0]


@_rule(Expand)
def _expand(case: _Case) -> Range | None:
    return case.ranges[0].map(lambda end: np.broadcast_to(end, case.y[-1:]))


@_rule(Reshape)
def _reshape(case: _Case) -> Range | None:
    if not case.y or case.y[-1] % case.x[-1]:
        return None
    return case.ranges[0].map(lambda end: np.tile(end, case.y[-1] // case.x[-1]))


@_rule(Transpose)
def _transpose(case: _Case) -> Range | None:
    return case.ranges[0] if case.op.perm[-1] == len(case.x) - 1 else None


@_rule(ResizeNearest)
def _nearest(case: _Case) -> Range | None:
    return case.ranges[0]


@_rule(MaxPool)
def _max_pool(case: _Case) -> Range | None:
    """A window that lies beside the image gives the least value."""
    return case.ranges[0] if window_counts(case.op.window, (0, 0, 0, 0), case.x).min() > 0 else None
