# SPDX-License-Identifier: Apache-2.0
"""Faults planted into graphs of a hop: the checker, which knows rows only, convicts each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from mmcc.checker.stream import check_stream
from mmcc.ir.graph import Graph, Node
from mmcc.ops.activation import Clamp
from mmcc.ops.conv import Conv
from mmcc.ops.conv_transpose import ConvTranspose
from mmcc.ops.elementwise import Unary
from mmcc.ops.movement import Concat, Slice
from mmcc.ops.pool import AveragePool
from mmcc.ops.recurrent import Recurrent
from mmcc.ops.repeat import Repeat, Taken
from mmcc.ops.resize import ResizeLinear, ResizeNearest
from mmcc.ops.sequence_start import CountHops, MaskBeforeStart, RepeatFirstRow
from mmcc.passes.streaming.stream import stream_graph
from streams import (
    ROWS,
    Stream,
    cells,
    centred,
    centred_and_strided,
    dilated,
    interpolated,
    late_cells,
    looped,
    padded_behind,
    stacked,
    upsampled,
    windowed,
)

pytestmark = pytest.mark.quick


def convicted(graph: Graph, change: Callable[[Graph], Graph], window: int = 0) -> str:
    streamed = stream_graph(graph, "x0:1", window)
    assert check_stream(graph, streamed) == []
    return "\n".join(check_stream(graph, replace(streamed, step=change(streamed.step))))


def with_node(kind: type, change: Callable[[Node], Node]) -> Callable[[Graph], Graph]:
    """The last node of an op changed."""

    def apply(graph: Graph) -> Graph:
        last = max(k for k, node in enumerate(graph.nodes) if isinstance(node.op, kind))
        return replace(graph, nodes=tuple(change(n) if k == last else n for k, n in enumerate(graph.nodes)))

    return apply


def with_states(change: Callable) -> Callable[[Graph], Graph]:
    return lambda graph: replace(graph, states=tuple(map(change, graph.states)))


def test_a_state_that_begins_with_something_else() -> None:
    found = convicted(dilated(), with_states(lambda s: replace(s, initial=s.initial + np.float32(1))))
    assert "('padding', '1.0'), ('x0', 0)], not of [('padding', '0.0'), ('padding', '0.0'), ('x0'" in found


def changed(**fields: float) -> Callable[[Node], Node]:
    return lambda node: replace(node, op=replace(node.op, **fields))


def test_rows_before_the_first_that_are_masked_otherwise() -> None:
    """One too few and one too many, at another rate, and with a value that its reader does not pad with."""
    for lag in (1, 3):
        assert "is made of" in convicted(stacked(), with_node(MaskBeforeStart, changed(lag=lag)))
    assert "is made of" in convicted(stacked(), with_node(MaskBeforeStart, changed(hop=2)))
    assert "('padding', '-0.0')" in convicted(stacked(), with_node(MaskBeforeStart, changed(value=-0.0)))
    unmasked = with_node(
        MaskBeforeStart, lambda node: replace(node, op=Unary("clamp", (-8.0, 8.0)), inputs=node.inputs[:1])
    )
    assert "does not only carry rows" in convicted(stacked(), unmasked)


def test_a_count_of_hops_that_stops_early_or_never() -> None:
    assert "is made of" in convicted(stacked(), with_node(CountHops, changed(most=1)))
    assert 'state "hops" is not what it was' in convicted(stacked(), with_node(CountHops, changed(most=99)))
    ahead = with_states(lambda s: replace(s, initial=s.initial + 1) if s.begin == "hops" else s)
    assert "is made of" in convicted(stacked(), ahead)


def test_several_rows_of_one_in_another_order_or_by_other_weights() -> None:
    """Windows moved by a row meet the same rows with other taps; rows may be taken from the one before."""

    def moved(node: Node) -> Node:
        assert isinstance(node.op, ConvTranspose)
        top, *others = node.op.window.pads
        window = replace(node.op.window, pads=(top + 1, *others))
        return replace(node, op=replace(node.op, window=window))

    def twice(node: Node) -> Node:
        assert isinstance(node.op, ResizeNearest)
        return replace(node, op=replace(node.op, rows=(node.op.rows[0], *node.op.rows[:-1])))

    for graph in (upsampled(), doubled()):
        assert "is made of" in convicted(graph, with_node(ConvTranspose, moved))
        assert "is made of" in convicted_at_the_end(upsampled(), with_node(ConvTranspose, moved))
    assert "is made of" in convicted(upsampled(), with_node(ResizeNearest, twice))
    columns = with_node(ResizeNearest, changed(cols=(1, 0)))
    assert "cols of" in convicted(upsampled(), columns)


def test_rows_between_others_that_are_found_otherwise() -> None:
    """The first row not repeated, or once too often; another row, or other weights for it."""
    assert "is made of" in convicted(interpolated(), with_node(RepeatFirstRow, changed(lag=0)))
    often = with_node(RepeatFirstRow, changed(lag=4))
    assert "is made of" in convicted(interpolated(), often)
    assert "at the end is made of" in convicted_at_the_end(interpolated(), often)

    def later(node: Node) -> Node:
        assert isinstance(node.op, ResizeLinear)
        return replace(node, op=replace(node.op, row_first=tuple(row + 1 for row in node.op.row_first)))

    def turned(graph: Graph) -> Graph:
        weights = {node.inputs[1] for node in graph.nodes if isinstance(node.op, ResizeLinear)}
        changed = {name: data[::-1] if name in weights else data for name, data in graph.constants.items()}
        return replace(graph, constants=changed)

    assert "is made of" in convicted(interpolated(), with_node(ResizeLinear, later))
    assert "weighs rows otherwise" in convicted(interpolated(), turned)
    assert "weighs rows otherwise at the end" in convicted_at_the_end(interpolated(), turned)


def doubled() -> Graph:
    """Windows that do not overlap: each row of the result is one row times one tap."""
    b = Stream("doubled")
    return b.graph(b.transposed(b.x, 2, 2))


def test_an_end_of_short_sequences_that_is_not_masked() -> None:
    found = convicted_at_the_end(stacked(), with_node(MaskBeforeStart, changed(lag=0)))
    assert "at the end is made of" in found


def test_a_state_that_is_never_pushed() -> None:
    assert "is made of" in convicted(dilated(), with_states(lambda s: replace(s, end=s.begin)))


def test_rows_of_another_time() -> None:
    """Taps one row too late."""

    def late(node: Node) -> Node:
        assert isinstance(node.op, Slice)
        first, *others = node.op.starts
        return replace(node, op=replace(node.op, starts=(first + 1, *others)))

    assert "is made of" in convicted(dilated(), with_node(Slice, late))


def test_another_operator_or_constant() -> None:
    def clamps(node: Node) -> Node:
        assert isinstance(node.op, Conv)
        return replace(node, op=replace(node.op, activation=Clamp(0.0)))

    assert "activation of" in convicted(dilated(), with_node(Conv, clamps))
    found = convicted(
        dilated(), lambda g: replace(g, constants={n: d.copy() for n, d in g.constants.items()})
    )
    assert "is no constant of the whole" in found


def forgets(node: Node) -> Node:
    """A cell that begins with its h and c exchanged."""
    assert isinstance(node.op, Recurrent)
    h, c = (node.op.position(name) for name in ("h", "c"))
    inputs = list(node.inputs)
    assert h is not None
    assert c is not None
    inputs[h], inputs[c] = inputs[c], inputs[h]
    return replace(node, inputs=tuple(inputs))


def test_a_cell_that_forgets_or_begins_otherwise() -> None:
    other = with_states(lambda s: replace(s, initial=s.initial + np.float32(1)))
    assert "begins otherwise" in convicted(cells(), other)
    assert "begins otherwise" in convicted(cells(), with_node(Recurrent, forgets))
    kept = with_states(lambda s: replace(s, end=s.begin))
    assert "instead of its row before" in convicted(cells(), kept)
    assert "instead of its row before" in convicted(padded_behind(), with_node(Recurrent, forgets))


def test_a_loop_that_forgets_or_begins_otherwise() -> None:
    other = with_states(lambda s: replace(s, initial=s.initial + np.float32(1)))
    assert "begins otherwise" in convicted(looped(), other)
    still = with_states(lambda s: replace(s, end=s.begin) if "carried" in s.begin else s)
    assert "instead of those before" in convicted(looped(), still)
    swapped = {".carried0_last": ".carried1_last", ".carried1_last": ".carried0_last"}

    def swap(node: Node) -> Node:
        y = node.outputs[-1]
        return replace(node, outputs=(*(y + swapped[name.removeprefix(y)] for name in node.outputs[:-1]), y))

    assert "instead of those before" in convicted(looped(), with_node(Repeat, swap))


def test_a_loop_with_other_steps_or_another_body() -> None:
    def of(**fields: object) -> str:
        return convicted(
            looped(), with_node(Repeat, lambda node: replace(node, op=replace(node.op, **fields)))
        )

    assert "makes 2 steps" in of(steps=2)
    assert "is made of" in of(scanned=(Taken(1, 2),))
    assert "scanned of" in of(scanned=(Taken(0, 1),))
    assert "does not hand on all" in of(kept=(0, 0))
    body = next(node.op.body for node in looped().nodes if isinstance(node.op, Repeat))
    assert "body of" in of(body=replace(body, name="another"))


def test_a_late_cell_that_begins_early_or_late_or_by_another_count() -> None:
    """Its state moves on rows before the sequence, or stays on the first ones of it; also in a flush."""
    for fields in ({"lag": 1}, {"lag": 99}, {"hop": 3}):
        assert "waits for" in convicted(late_cells(), with_node(Recurrent, changed(**fields)))
        assert "waits for" in convicted_at_the_end(late_cells(), with_node(Recurrent, changed(**fields)))

    def counts_nothing(node: Node) -> Node:
        assert isinstance(node.op, Recurrent)
        operands = tuple(name for name in node.op.operands if name != "hops")
        return replace(node, op=replace(node.op, operands=operands), inputs=node.inputs[:-1])

    assert "waits for 0 of its rows" in convicted(late_cells(), with_node(Recurrent, counts_nothing))
    other = with_node(Recurrent, lambda node: replace(node, inputs=(*node.inputs[:-1], node.inputs[1])))
    assert "waits for None of its rows" in convicted(late_cells(), other)
    ahead = with_states(lambda s: replace(s, initial=s.initial + 1) if s.begin == "hops" else s)
    assert "waits for" in convicted(late_cells(), ahead)
    moved = with_states(lambda s: replace(s, initial=s.initial * 2) if len(s.initial.shape) == 2 else s)
    assert "begins otherwise" in convicted(late_cells(), moved)


def convicted_at_the_end(graph: Graph, change: Callable[[Graph], Graph]) -> str:
    streamed = stream_graph(graph, "x0:1")
    assert streamed.flush is not None
    return "\n".join(check_stream(graph, replace(streamed, flush=change(streamed.flush))))


def test_an_end_of_other_rows() -> None:
    """New rows before the old ones."""

    def turned(node: Node) -> Node:
        return replace(node, inputs=node.inputs[::-1])

    assert "at the end is made of" in convicted_at_the_end(centred(), with_node(Concat, turned))


def test_an_end_that_is_padded_otherwise() -> None:
    """One row more behind the last moves all, and means of other counts of rows are others."""

    def counts(node: Node) -> Node:
        assert isinstance(node.op, AveragePool)
        return replace(node, op=replace(node.op, counted=(0, 0, 2, 0)))

    found = convicted_at_the_end(centred_and_strided(), with_node(AveragePool, counts))
    assert "counts other rows behind the last" in found


def test_an_end_without_an_output_or_with_states_of_its_own() -> None:
    found = convicted_at_the_end(centred(), lambda g: replace(g, outputs=g.outputs[:1]))
    assert "rows at the end" in found
    other = with_states(lambda s: replace(s, end=""))
    assert "is changed at the end" in convicted_at_the_end(centred(), other)
    found = convicted_at_the_end(
        centred(), lambda g: replace(g, constants={n: d.copy() for n, d in g.constants.items()})
    )
    assert "is no constant of the whole" in found


def test_a_cell_that_ends_with_something_else() -> None:
    assert "instead of its row before" in convicted_at_the_end(padded_behind(), with_node(Recurrent, forgets))


def test_a_window_that_does_not_move() -> None:
    stuck = with_states(lambda s: replace(s, end=s.begin) if len(s.initial) == ROWS else s)
    assert "does not hold its newest" in convicted(windowed(), stuck, ROWS)
