# SPDX-License-Identifier: Apache-2.0
"""`--stream`: hop by hop a graph gives the rows that it gives of the whole, and keeps few of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import streams
from mmcc.checker.stream import check_stream
from mmcc.errors import CompileError, Exit
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.streaming import Streamed
from mmcc.ir.verify import check_graph
from mmcc.ops.elementwise import Binary
from mmcc.ops.movement import Pad, Reshape, Slice, Transpose
from mmcc.ops.pool import AveragePool, MaxPool
from mmcc.ops.recurrent import CellFunction, Recurrent
from mmcc.ops.reduce import Reduce
from mmcc.ops.resize import ResizeNearest
from mmcc.ops.window import Window
from mmcc.passes.positive_zeros import positive_zeros
from mmcc.passes.separate_states import separate_states
from mmcc.passes.streaming import stream
from mmcc.passes.streaming.stream import stream_graph
from streams import (
    BY_HAND,
    ROWS,
    Stream,
    centred,
    dilated,
    fed,
    interpolated,
    pools,
    random_stack,
    random_stream,
    sequence,
    strided,
    windowed,
)

pytestmark = [
    pytest.mark.quick,
    pytest.mark.filterwarnings("ignore:invalid value"),  # of rows before row 0, which mean nothing
]


def same_rows(graph: Graph, asked: str = "x0:1") -> None:
    """Stepped, the graph gives the same bits; and the checker proves it of all rows to come."""
    streamed = checked(graph, asked)
    streaming = streamed.streaming
    x = sequence(graph)
    whole = evaluate_tensors(graph, {graph.inputs[0].tensor: x})
    assert len(x) % streaming.hop or not streaming.no_flush
    for name, rows in fed(streamed, x).items():
        (output,) = (each for each in streaming.outputs if each.name == name)
        assert len(rows) == len(x) // streaming.hop * output.hop - output.lag + output.tail
        assert len(rows) == len(whole[name]) or streaming.no_flush
        np.testing.assert_array_equal(rows, whole[name][: len(rows)])


def checked(graph: Graph, asked: str, window: int = 0) -> Streamed:
    streamed = stream_graph(graph, asked, window)
    flush = streamed.flush and separate_states(streamed.flush)
    streamed = replace(streamed, step=separate_states(streamed.step), flush=flush)
    assert check_graph(streamed.step) == []
    assert flush is None or check_graph(flush) == []
    assert check_stream(graph, streamed) == []
    return streamed


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("hops", ["", ":12", ":24"])
def test_hops_of_any_size_give_the_rows_of_the_whole(name: str, hops: str) -> None:
    same_rows(BY_HAND[name](), f"x0:1{hops}")


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    graph = random_stream(seed)
    same_rows(graph)
    same_rows(graph, f"x0:1:{18 if seed % 2 else 36}")


@pytest.mark.parametrize("seed", range(30))
def test_random_stacks_of_layers_that_look_ahead(seed: int) -> None:
    graph = random_stack(seed)
    same_rows(graph)
    same_rows(graph, f"x0:1:{(8, 16, 24)[seed % 3]}")


@pytest.mark.parametrize(
    "name",
    [
        *("centred", "centred_and_strided", "padded_behind", "stacked", "stacked_and_strided"),
        *("late_cells", "upsampled", "interpolated", "interpolated_far"),
        *("encoder_and_decoder", "padded_points"),
    ],
)
def test_a_flush_ends_sequences_of_any_length(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = checked(BY_HAND[name](), "x0:1")
    for rows in (12, 24, 36):
        monkeypatch.setattr(streams, "ROWS", rows)
        short = BY_HAND[name]()
        x = sequence(short, rows)
        whole = evaluate_tensors(short, {"x0": x})
        for output, values in fed(streamed, x).items():
            np.testing.assert_array_equal(values, whole[output])


def test_hops_are_as_short_as_rates_allow() -> None:
    """Doubled after it was halved, or tripled and quartered, a sequence needs no longer hops than before."""
    b = Stream("rates")
    doubled = b.nearest(b.causal(b.x, 2, stride=2), 2)
    quartered = b.causal(b.nearest(b.x, 3), 4, stride=4)
    streaming = checked(b.graph(doubled, quartered), "x0:1").streaming
    assert (streaming.hop, [each.hop for each in streaming.outputs]) == (4, [4, 3])


def resized(*rows: int) -> Graph:
    b = Stream("resized")
    return b.graph(b.add(ResizeNearest(rows, (0, 1)), b.x))


def test_a_resize_by_no_whole_factor_is_refused() -> None:
    with pytest.raises(CompileError, match="the same number of rows of each"):
        stream_graph(resized(*(int(r * 0.37) for r in range(100))), "x0:1")
    same_rows(resized(*(r * 2 // 3 for r in range(72))))  # three rows of two
    graph = interpolated()
    weights = {name: data for name, data in graph.constants.items() if data.shape == (2 * ROWS, 2)}
    uneven = {name: data + np.eye(2 * ROWS, 2, dtype=np.float32) for name, data in weights.items()}
    with pytest.raises(CompileError, match="weighs the rows of each otherwise"):
        stream_graph(replace(graph, constants=graph.constants | uneven), "x0:1")


@pytest.mark.parametrize("layer", ["causal", "transposed"])
def test_sums_begin_with_no_negative_zero(layer: str) -> None:
    """From -0 on a sum would tell whether rows of padding were added, or left out."""
    b = Stream(layer)
    graph = b.graph(b.causal(b.x, 3) if layer == "causal" else b.transposed(b.x, 4, 2, pad=1))
    biases = {name: -0.0 * np.abs(data) for name, data in graph.constants.items() if data.ndim == 1}
    mended = positive_zeros(replace(graph, constants=graph.constants | biases))
    (used,) = (mended.constants[node.inputs[2]] for node in mended.nodes if len(node.inputs) == 3)
    assert not np.signbit(used).any()


def test_no_flush_says_why() -> None:
    def why(graph: Graph, asked: str = "x0:1") -> str:
        streamed = stream_graph(graph, asked)
        assert streamed.flush is None
        return streamed.streaming.no_flush

    b = Stream("alone")
    assert "nothing but padding" in why(b.graph(b.add(Pad((0, 0, 0), (2, 0, 0)), b.clamped(b.x))))
    assert "do not end" in why(centred(), "x0:1:5")
    assert why(dilated()) == ""
    b = Stream("two_apart_and_centred")
    assert "none of the model's own" in why(b.graph(b.centred(two_rows_apart(b), 3)))


def kept(graph: Graph, asked: str = "x0:1") -> dict[str, int]:
    step = stream_graph(graph, asked).step
    return {state.begin: len(state.initial) for state in step.states}


def test_only_rows_that_are_needed_again_are_kept() -> None:
    """Of three taps two rows, of four at a distance of three nine."""
    assert list(kept(dilated()).values()) == [2, 9]
    assert sorted(kept(strided()).values()) == [1, 3]  # one state for both readers of the input
    assert sorted(kept(pools()).values()) == [2, 3]


def test_a_dilated_node_gets_its_taps_only() -> None:
    step = stream_graph(dilated(), "x0:1").step
    assert [step.tensors[node.inputs[0]].shape[0] for node in step.nodes if node.op.kernel == "conv"] == [
        3,
        4,
    ]


def test_a_window_is_what_needs_the_whole_sequence_sees() -> None:
    graph = windowed()
    with pytest.raises(CompileError, match="needs the whole sequence") as refused:
        stream_graph(graph, "x0:1")
    assert refused.value.exit is Exit.UNSUPPORTED
    assert refused.value.at[0].op == "Reduce"
    streamed = checked(graph, "x0:1", ROWS)
    x = sequence(graph)
    twice = np.concatenate([x, sequence(graph, 1)])
    (values,) = fed(streamed, twice).values()
    assert len(values) == 2 * ROWS
    whole = evaluate_tensors(graph, {"x0": x})
    np.testing.assert_array_equal(values[ROWS - 1], whole[graph.outputs[0].tensor])


def test_a_cell_over_a_window_begins_anew_in_each_hop() -> None:
    """It runs backward, so the whole window is needed; the one before it goes on from hop to hop."""
    b = Stream("backward", 8, 1)
    functions = (CellFunction("clamp", (-1.0, 1.0)),) * 3
    h = b.add(Reshape((ROWS, 8)), b.cell("lstm", b.x, 8))
    last = b.add(Recurrent("lstm", functions, backward=True), h, b.whole(8, 2))
    graph = b.graph(last)
    x = sequence(graph)
    (values,) = fed(checked(graph, "x0:1", ROWS), x).values()
    np.testing.assert_array_equal(values[-1], evaluate_tensors(graph, {"x0": x})[graph.outputs[0].tensor])


def test_an_output_beside_a_window_is_flushed_and_a_window_of_late_rows_refused() -> None:
    b = Stream("beside_a_window")
    mean = b.add(Reduce("max", (0, 1)), b.causal(b.x, 3))
    graph = b.graph(mean, b.centred(b.x, 5))
    streamed, x = checked(graph, "x0:1", ROWS), sequence(graph)
    assert streamed.flush is not None
    (late,) = streamed.flush.outputs
    whole, found = evaluate_tensors(graph, {"x0": x}), fed(streamed, x)
    np.testing.assert_array_equal(found[late.onnx_name], whole[late.tensor])
    np.testing.assert_array_equal(found[graph.outputs[0].onnx_name][-1], whole[mean])
    b = Stream("late_window")
    with pytest.raises(CompileError, match="rows that come late"):
        stream_graph(b.graph(b.add(Reduce("max", (0, 1)), b.centred(b.x, 3))), "x0:1", ROWS)


@pytest.mark.parametrize("hop", [":5", ":7"])
def test_a_window_that_never_is_the_whole_sequence_is_refused(hop: str) -> None:
    """After as many rows as the model takes it must hold just these: no hop of 5 rows ends there."""
    with pytest.raises(CompileError, match=f"of the {ROWS} that the model takes") as refused:
        stream_graph(windowed(), f"x0:1{hop}", ROWS)
    assert refused.value.code == "MM114"
    assert stream_graph(windowed(), "x0:1:6", ROWS)


def test_rows_before_the_first_mean_nothing_where_nothing_is_padded() -> None:
    """A maximum that looks ahead: its kept rows begin with anything."""
    b = Stream("maximum_ahead")
    same_rows(b.graph(b.add(MaxPool(Window((3, 1))), b.x)))


def backward() -> Graph:
    b = Stream("backward", 4, 1)
    x = b.add(Reshape((ROWS, 4)), b.x)
    return b.graph(b.add(Recurrent("rnn", (CellFunction("tanh"),), backward=True), x, b.whole(4, 4)))


def turned() -> Graph:
    b = Stream("turned")
    return b.graph(b.add(Transpose((1, 0, 2)), b.x))


def short_means() -> Graph:
    b = Stream("short_means")
    return b.graph(b.add(AveragePool(Window((3, 1), pads=(2, 0, 0, 0))), b.x))


def shorter(b: Stream, rows: int) -> str:
    """All but the last rows."""
    return b.add(Slice((0, 0, 0), (1, 1, 1), (ROWS - rows, 2, 3)), b.x)


def two_rows_apart(b: Stream) -> str:
    """Each row and the one two before it: the last two are dropped, but nothing is read beyond them."""
    newer = b.add(Slice((2, 0, 0), (1, 1, 1), (ROWS - 2, 2, 3)), b.x)
    return b.add(Binary("sub"), newer, shorter(b, 2))


def without_the_last() -> Graph:
    b = Stream("without_the_last")
    return b.graph(b.clamped(shorter(b, 8)))


def padded_for_the_last() -> Graph:
    """Where the last row was there is padding: a hop would find the row."""
    b = Stream("padded_for_the_last")
    return b.graph(b.centred(shorter(b, 1), 3, pads=(0, 2)))


def test_rows_that_are_dropped_may_be_so_where_nothing_reads_beyond() -> None:
    b = Stream("two_apart")
    same_rows(b.graph(two_rows_apart(b)))


@pytest.mark.parametrize("make", [without_the_last, padded_for_the_last])
def test_the_checker_knows_where_the_whole_ends(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "check_ends", lambda *_: None)
    faults = "\n".join(check_stream(make(), stream_graph(make(), "x0:1")))
    assert "a dropped one" in faults or "rows after" in faults


def table_of_rows() -> Graph:
    b = Stream("table_of_rows")
    return b.graph(b.add(Binary("add"), b.x, b.whole(ROWS, 1, 3)))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (backward, "from the last step to the first"),
        (turned, "time becomes another axis|rows one by one|near and far"),
        (short_means, "of fewer rows"),
        (table_of_rows, "differs from row to row"),
        (without_the_last, "drops the last 8 rows"),
        (padded_for_the_last, "drops the last 1 row,"),
    ],
)
def test_what_cannot_be_streamed_is_refused_with_its_node(make, why: str) -> None:
    graph = make()
    with pytest.raises(CompileError, match=why) as refused:
        stream_graph(graph, "x0:1")
    assert refused.value.code == "MM205"
    assert refused.value.at in {node.where for node in graph.nodes}


def test_an_average_of_weights_that_are_no_numbers_is_refused() -> None:
    graph = dilated()
    broken = {name: np.full_like(data, np.inf) for name, data in graph.constants.items()}
    with pytest.raises(CompileError, match="no finite number"):
        stream_graph(replace(graph, constants=broken), "x0:1")


@pytest.mark.parametrize(
    ("asked", "window", "why"),
    [
        ("y:1", 0, "not INPUT:AXIS"),
        ("x0", 0, "not INPUT:AXIS"),
        ("x0:7", 0, "no axis 7"),
        ("x0:0", 0, "no axis 0"),
        ("x0:1:4", 0, "hops of 4 rows"),
        ("x0:1:96", 0, "a hop is 96 rows"),
        ("x0:1:0", 0, "a hop of 0 rows"),
        ("x0:1", 48, "--window 48"),
    ],
)
def test_what_no_stream_is(asked: str, window: int, why: str) -> None:
    with pytest.raises(CompileError, match=why) as refused:
        stream_graph(strided(), asked, window)
    assert refused.value.code == "MM114"
    assert refused.value.exit is Exit.USAGE
