# SPDX-License-Identifier: Apache-2.0
"""Sums, means and extremes over all rows that take the rows in one by one, with sums kept from call to call.

Bits are those of the kernels that see all rows at once: the same additions in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from mmcc.ir.graph import Graph, Node, taken_by
from mmcc.ir.program import Field, KernelUse, View
from mmcc.ir.traits import Alias
from mmcc.ir.types import Tensor, geometry
from mmcc.kernels.epilogue import Options, check_accumulator, epilogue
from mmcc.kernels.portable.gradients import bias_gradient, weight_gradient
from mmcc.kernels.select import Site
from mmcc.kernels.window import views
from mmcc.ops.bias_gradient import BiasGradient
from mmcc.ops.conv_gradient import WeightGradient
from mmcc.ops.pool import AveragePool, AveragePoolInt8
from mmcc.ops.reduce import MeanInt8, Reduce
from mmcc.ops.window import Window

FLOAT_BLOCKS = 3  # sums of a block of 32, of 1024, and of all: see reduce.c.j2
REDUCTIONS = {"sum": FLOAT_BLOCKS, "mean": FLOAT_BLOCKS, "max": 1, "min": 1}  # words for each output

Fields = tuple[tuple[str, Field], ...]


def accumulator_bytes(graph: Graph, node: Node) -> int | None:
    """Bytes of a node's sums, if it can take in rows one by one; 0 if they are its result."""
    if node.at_once or node.handoff is not None or not node.inputs:
        return None
    if geometry(graph.tensors[taken_by(graph, node)].shape)[0] == 1:
        return None
    if node.op.traits.rides:
        return 0 if _sums_in_its_result(graph, node) else None
    return 4 * _words(graph, node) * prod(graph.tensors[node.output].shape) or None


def _sums_in_its_result(graph: Graph, node: Node) -> bool:
    """True if a node adds to what a state holds and leaves the sum there, or begins with 0 in bytes that
    are the result's alone while it sums."""
    match node.op:
        case WeightGradient(into="") | BiasGradient(into=""):
            readers = graph.consumers[node.output]
            changed = {state.end for state in graph.states} | graph.output_names
            joined = any(reader.op.traits.alias is Alias.JOIN for reader in readers)
            return node.output not in changed and not joined
        case WeightGradient(into="sum"):
            begin = node.inputs[2]
        case BiasGradient(into="sum"):
            begin = node.inputs[1]
        case _:
            return False
    return any((state.begin, state.end) == (begin, node.output) for state in graph.states)


def _words(graph: Graph, node: Node) -> int:
    """Sums for each output; 0 if the node cannot."""
    x, op = graph.tensors[node.inputs[0]], node.op
    match op:
        case MeanInt8():
            return int(_over_rows(x, op.axes))
        case Reduce():
            return REDUCTIONS.get(op.function, 0) if x.dtype.is_float and _over_rows(x, op.axes) else 0
        case AveragePool():
            return int(_is_global(op.window, x))
        case AveragePoolInt8():
            return int(_is_global(op.window, x) and graph.tensors[node.inputs[1]].shape == (1,))
        case _:
            return 0


def _over_rows(x: Tensor, axes: tuple[int, ...]) -> bool:
    """True if the axes are rows, or rows and columns."""
    return len(x.shape) in (2, 3) and set(axes) in ({0}, {0, 1} if len(x.shape) == 3 else {0})


def _is_global(window: Window, x: Tensor) -> bool:
    plain = window.pads == (0, 0, 0, 0) and window.dilations == (1, 1)
    return plain and window.kernel == tuple(x.shape[:2])


def accumulate(op: Any, site: Site, sums: View | None) -> KernelUse:
    """The kernel of a node that takes in its input row by row; `sums` is where it keeps what it has, None if
    in its result."""
    if sums is None:
        return _INTO_RESULTS[type(op)](op, site, by_rows=True)
    return _LAYERS[type(op)](op, site, sums)


def _shared(site: Site, sums: View) -> Fields:
    rows, cols, channels = site.inputs[0].geometry
    out_cols = site.output.geometry[1]
    return (
        *views(site),
        ("sums", sums),
        ("rows", rows),
        ("cols", cols),
        ("out_cols", out_cols),
        ("sum_step", channels if out_cols == cols else 0),
        ("channels", channels),
    )


def _int8(
    site: Site,
    sums: View,
    count: int,
    x_zero: int,
    scale: tuple[Any, Any],
    y_zero: int,
    clamp: tuple[int, int],
) -> KernelUse:
    bound = count * max(127 - x_zero, x_zero + 128)
    check_accumulator(2 * bound, site)
    end = epilogue(bound, *scale, y_zero, clamp)
    fields: Fields = (
        *_shared(site, sums),
        *end.fields,
        ("start", -count * x_zero),
        ("multiplier", int(scale[0][0])),
        ("shift", int(end.tail[0])),
    )
    return KernelUse("accumulate_int8", end.options, fields)


def _mean_int8(op: MeanInt8, site: Site, sums: View) -> KernelUse:
    count = prod(site.inputs[0].shape[axis] for axis in op.axes)
    scale = np.array([op.multiplier], np.int32), np.array([op.shift], np.int8)
    return _int8(site, sums, count, op.x_zero, scale, op.y_zero, (op.low, op.high))


def _average_pool_int8(op: AveragePoolInt8, site: Site, sums: View) -> KernelUse:
    scale = site.inputs[1].constant(), site.inputs[2].constant()
    return _int8(site, sums, prod(op.window.kernel), op.x_zero, scale, op.y_zero, (op.low, op.high))


def _float(site: Site, sums: View, function: str, order: str, count: int) -> KernelUse:
    """`order` is that of the additions: "rows" sums each row by itself, "blocks" goes on from row to row."""
    options: Options = (("function", function), ("order", order))
    return KernelUse("accumulate", options, (*_shared(site, sums), ("count", float(count))))


def _average_pool(op: AveragePool, site: Site, sums: View) -> KernelUse:
    return _float(site, sums, "mean", "rows", prod(op.window.kernel))


def _reduce(op: Reduce, site: Site, sums: View) -> KernelUse:
    count = prod(site.inputs[0].shape[axis] for axis in op.axes)
    return _float(site, sums, op.function, "blocks", count)


_LAYERS: dict[type, Callable[[Any, Site, View], KernelUse]] = {
    MeanInt8: _mean_int8,
    AveragePoolInt8: _average_pool_int8,
    AveragePool: _average_pool,
    Reduce: _reduce,
}
_INTO_RESULTS: dict[type, Callable[..., KernelUse]] = {
    WeightGradient: weight_gradient,
    BiasGradient: bias_gradient,
}
