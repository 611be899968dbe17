# SPDX-License-Identifier: Apache-2.0
"""Rows per hop of every tensor: the balance equations of a stream, and what waits for rows to come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph, Node
from mmcc.ir.streaming import Hops, Rows
from mmcc.ops.repeat import Repeat
from mmcc.passes.streaming.padding import Padding, padding_of
from mmcc.passes.streaming.reads import INTERPOLATES, NeedsAll, RowReads, needs_whole, row_reads


@dataclass(frozen=True, slots=True)
class Found:
    """How a model streams: the rows of its tensors, and by node which rows it reads of which operand."""

    hops: Hops
    reads: Mapping[int, Mapping[int, RowReads]]
    padding: Mapping[int, Padding | None]  # what nodes find beside their operand; None: nothing is read there


def find_hops(graph: Graph, streamed: str, times: int, *, window: bool) -> Found:
    """The rows of all tensors that depend on `streamed`, of which a hop has `times` the least possible rows.

    With `window`, what needs the whole sequence, and all that follows, sees a window of it; else CompileError
    MM205 names the node.
    """
    rates, reads, windows = _rates(graph, streamed, window=window)
    least = lcm(*(rate.denominator for rate in rates.values())) * times
    rows = {streamed: Rows(least, 0)}
    padding: dict[int, Padding | None] = {}
    for index, node in enumerate(graph.nodes):
        if index not in reads:
            continue
        lag = max(each.up * _lag(each, rows[node.inputs[k]].lag) for k, each in reads[index].items())
        if lag and isinstance(node.op, Repeat):
            raise _not_causal(node, "would begin with rows from before the first, since they come late")
        padding[index] = _padding(graph, node, reads[index], rows)
        for name in node.outputs:
            rows[name] = Rows(int(rates[name] * least), lag)
    late = next((name for name in windows if rows[name].lag), None)
    if late is not None:
        what = "sees a window of rows that come late, since a layer before it looks ahead"
        raise _not_causal(graph.consumers[late][0], what)
    return Found(Hops(rows, windows), reads, padding)


def _rates(
    graph: Graph, streamed: str, *, window: bool
) -> tuple[dict[str, Fraction], dict[int, dict[int, RowReads]], frozenset[str]]:
    """Rows of each tensor for a row of the input; reads by node; tensors that are kept as windows."""
    rates = {streamed: Fraction(1)}
    reads: dict[int, dict[int, RowReads]] = {}
    windows, after = set[str](), set[str]()  # after: computed from windows
    for index, node in enumerate(graph.nodes):
        moving = [name for name in node.inputs if name in rates]
        if after.isdisjoint(node.inputs) and not moving:
            continue
        try:
            if not after.isdisjoint(node.inputs):
                raise NeedsAll("it reads what does")
            found = row_reads(graph, node, moving)
            of = {rates[node.inputs[k]] * each.up / each.stride for k, each in found.items()}
            if len(of) != 1:
                raise NeedsAll("its operands have rows at different rates")
            if len(found) > 1 and any(each.up > 1 for each in found.values()):
                raise NeedsAll("it makes several rows of one of several operands")
        except NeedsAll as error:
            if not window:
                raise needs_whole(node, str(error)) from error
            windows.update(moving)
            after.update(node.outputs)
            continue
        reads[index] = found
        rates |= dict.fromkeys(node.outputs, of.pop())
    return rates, reads, frozenset(windows)


def _lag(reads: RowReads, lag: int) -> int:
    """By how many rows, or times `up` rows, a result lags behind for one operand that does by `lag`."""
    return max(0, ceil(Fraction(max(reads.taps) + lag + 1, reads.stride)) - 1)


def _padding(
    graph: Graph, node: Node, reads: Mapping[int, RowReads], rows: Mapping[str, Rows]
) -> Padding | None:
    """What a node finds before the first row of its operands; None if it reads nothing there."""
    if isinstance(node.op, INTERPOLATES) or all(min(each.taps) >= 0 for each in reads.values()):
        return None
    vectors = (node.inputs[k] for k in reads if len(graph.tensors[node.inputs[k]].shape) < 2)
    if any(rows[name].lag for name in vectors):
        raise _not_causal(node, "pads numbers that lag behind, and are no rows")
    return padding_of(graph, node)


def _not_causal(node: Node, what: str) -> CompileError:
    message = f"--stream: {node.op} {what}"
    hint = "a causal model: all its padding before the first row"
    return CompileError("MM205", message, exit=Exit.UNSUPPORTED, at=node.where, hint=hint)
