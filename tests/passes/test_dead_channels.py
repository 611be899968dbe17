# SPDX-License-Identifier: Apache-2.0
"""Channels on which no output depends are left out; every bit that stays is what it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from int8_graphs import int8_graph
from ir_text import read
from mmcc.ir.graph import Graph
from mmcc.ir.parse import parse_graph
from mmcc.ir.verify import check_graph
from mmcc.ops import OPS
from mmcc.ops.conv import ConvInt8
from mmcc.ops.dense import DenseInt8
from mmcc.passes.dead_channels import drop_dead_channels, least_needed
from mmcc.passes.dead_channels.equal import ValueNumbers
from mmcc.passes.dead_channels.needs import Needs
from mmcc.passes.dead_channels.ranges import channel_ranges
from mmcc.passes.integer_layers import accumulator_bound

pytestmark = pytest.mark.quick
Array = np.ndarray


def values(graph: Graph, x: Array) -> dict[str, Array]:
    """All tensors, by the references."""
    arrays = dict(graph.constants) | {graph.inputs[0].tensor: x}
    for node in graph.nodes:
        results = node.op.reference(*(arrays[name] for name in node.inputs))
        arrays |= dict(zip(node.outputs, results, strict=True))
    return arrays


def same_bits(graph: Graph, inputs: list[Array]) -> Graph:
    """The graph without its dead channels: what is left is as before, and no value is outside its range."""
    ranges = channel_ranges(graph)
    kept = least_needed(graph, ranges)[1].kept
    after = drop_dead_channels(graph)
    assert check_graph(after) == []
    for x in inputs:
        old, new = values(graph, x), values(after, x)
        for name, found in ranges.items():
            if name in old:
                assert ((old[name] >= found.low) & (old[name] <= found.high)).all(), name
        for node in after.nodes:
            (name,) = node.outputs
            want = old[name][..., kept[name]] if name in kept else old[name]
            assert new[name].tobytes() == np.ascontiguousarray(want).tobytes(), f"{name}: {node.op}"
    return after


def some_inputs(graph: Graph, count: int, rng: np.random.Generator) -> list[Array]:
    shape = graph.tensors[graph.inputs[0].tensor].shape
    ends = [np.full(shape, v, np.int8) for v in (-128, 127, 0)]
    corners = [rng.choice([-128, 127], shape).astype(np.int8) for _ in range(count // 2)]
    return [*ends, *corners, *(rng.integers(-128, 128, shape).astype(np.int8) for _ in range(count // 2))]


def bounds(graph: Graph) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in graph.nodes:
        if isinstance(node.op, (ConvInt8, DenseInt8)):
            w, b = (graph.constants[name].astype(np.int64) for name in node.inputs[1:3])
            found[node.output] = accumulator_bound(w, node.op.w_zero, b, node.op.x_zero)
    return found


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs_give_the_same_bits(seed: int) -> None:
    graph = int8_graph(seed)
    after = same_bits(graph, some_inputs(graph, 10, np.random.default_rng(seed)))
    old, new = bounds(graph), bounds(after)
    assert all(new[name] <= old[name] for name in new), "sums stay within what was proved of them"


@pytest.mark.parametrize("seed", range(25))
def test_every_input_of_tiny_graphs(seed: int) -> None:
    """All that there are: 256 of one element, and each pair of some values of two."""
    graph = int8_graph(seed, (1, 1, 1), most=6)
    same_bits(graph, [np.full((1, 1, 1), v, np.int8) for v in range(-128, 128)])
    graph = int8_graph(seed, (1, 2, 1), most=6)
    some = (-128, -127, -77, -1, 0, 1, 64, 126, 127)
    same_bits(graph, [np.array(pair, np.int8).reshape(1, 2, 1) for pair in product(some, some)])


def test_random_graphs_have_what_is_looked_for() -> None:
    gone = [drop_dead_channels(int8_graph(seed)).removed for seed in range(150)]
    assert sum(bool(removed) for removed in gone) > 60
    assert sum(each.channels for removed in gone for each in removed) > 300


def test_random_graphs_have_equal_channels() -> None:
    """More is left out of many of them than what is constant or never read."""
    fewer = 0
    for graph in map(int8_graph, range(80)):
        ranges = channel_ranges(graph)
        needs = Needs(graph, ranges)
        needs.run()
        fewer += least_needed(graph, ranges)[1].count < needs.count
    assert fewer > 30


# ---- by hand

POINT = "window=Window(kernel=[1, 1])"
HEAD = """
    input %x: i8[2,2,1]
    constant %multiplier: i32[5] = all 1073741824
    constant %shift: i8[5] = all 37
    constant %w: i8[5,1,1,1] = [3, 4, 0, 5, 6]
    constant %b: i32[5] = {b}
    %t = ConvInt8(window=Window(kernel=[1, 1]), x_zero=0, y_zero=-128)(%x, %w, %b, %multiplier, %shift)
    constant %m1: i32[1] = all 1073741824
    constant %s1: i8[1] = all 37
    constant %b1: i32[1] = [7]
"""
TAIL = """
    %y = ConvInt8(window=Window(kernel=[1, 1]), x_zero={zero}, y_zero=0)(%t, %v, %b1, %m1, %s1)
    constant %v: i8[1,1,1,5] = [1, 2, 3, 4, {last}]
    output %y
"""
SAME = "Window(kernel=[3, 3], pads=[1, 1, 1, 1])"
PADDED = f"""
    constant %v: i8[1,3,3,5] = all 2
    %y = ConvInt8(window={SAME}, x_zero={{zero}}, y_zero=0)(%t, %v, %b1, %m1, %s1)
    output %y
"""


def by_hand(tail: str, b: str = "[9, 9, 6400, -99999, 9]", zero: int = -128, last: int = 5) -> Graph:
    v = f"constant %v: i8[1,1,1,5] = [1, 2, 3, 4, {last}]"
    lines = tail.format(zero=zero, last=last).splitlines()
    ordered = [v, *(line for line in lines if "constant %v: i8[1,1" not in line)] if tail is TAIL else lines
    return read("\n".join([*HEAD.format(b=b).splitlines(), *ordered]))


def left(graph: Graph) -> tuple[list[int], int]:
    """The weights of the last layer that are left, and its bias."""
    rng = np.random.default_rng(3)
    after = same_bits(graph, some_inputs(graph, 20, rng))
    w, b = (after.constants[name] for name in after.nodes[-1].inputs[1:3])
    return w.ravel().tolist(), int(b[0])


def test_a_channel_that_is_the_zero_point_adds_nothing() -> None:
    """The fourth is clamped away; the third is always 50 steps above, and its share is in the bias."""
    assert left(by_hand(TAIL)) == ([1, 2, 5], 7 + 50 * 3)


def test_a_channel_that_nobody_reads_is_left_out_whatever_it_is() -> None:
    assert left(by_hand(TAIL, last=0)) == ([1, 2], 7 + 50 * 3)


def test_a_constant_beside_padding_stays_unless_it_is_the_zero_point() -> None:
    weights, bias = left(by_hand(PADDED))
    assert (len(weights), bias) == (9 * 4, 7), "at the border the constant is not added"
    weights, bias = left(by_hand(PADDED, zero=-78))
    assert (len(weights), bias) == (9 * 4, 7), "now it is the one that is clamped away that differs"


def test_a_channel_stays_where_one_of_a_residual_does() -> None:
    """Of the second operand the second is constant, too; the third and the fourth are in both."""
    head = HEAD.format(b="[9, 9, -99999, -99999, 9]")
    graph = read(f"""
        {head}
        constant %w2: i8[5,1,1,1] = [1, 1, 1, 1, 1]
        constant %b2: i32[5] = [9, -99999, -99999, -99999, 9]
        %t2 = ConvInt8({POINT}, x_zero=0, y_zero=-128)(%x, %w2, %b2, %multiplier, %shift)
        %u = AddInt8(zeros=[-128, -128], multipliers=[1073741824, 99], shift=31, y_zero=-128)(%t, %t2)
        constant %v: i8[1,1,1,5] = [1, 2, 3, 4, 5]
        %y = ConvInt8({POINT}, x_zero=-128, y_zero=0)(%u, %v, %b1, %m1, %s1)
        output %y
    """)
    assert left(graph) == ([1, 2, 5], 7)
    assert drop_dead_channels(graph).tensors["t2"].shape == (2, 2, 3)


def test_values_that_may_round_either_way_are_not_constant() -> None:
    """Half a step: ONNX Runtime, which rounds in float, may have the one or the other."""
    assert left(by_hand(TAIL, b="[9, 9, 64, 0, 9]"))[0] == [1, 2, 3, 4, 5]
    assert left(by_hand(TAIL, b="[9, 9, 63, 0, 9]"))[0] == [1, 2, 4, 5]


@pytest.mark.parametrize(("needed", "kept"), [(5, 8), (4, 4), (1, 4), (0, 4)])
def test_whole_words_of_channels_stay(needed: int, kept: int) -> None:
    """A part of a word would cost more than it saves."""
    graph = read(f"""
        input %x: i8[2,2,1]
        constant %w: i8[8,1,1,1] = all 3
        constant %b: i32[8] = {[*range(9, 9 + needed)] + [-99999] * (8 - needed)}
        constant %m: i32[8] = all 1073741824
        constant %s: i8[8] = all 37
        %t = ConvInt8({POINT}, x_zero=0, y_zero=-128)(%x, %w, %b, %m, %s)
        constant %v: i8[2,1,1,8] = all 3
        constant %c: i32[2] = [7, 8]
        constant %m2: i32[2] = all 1073741824
        constant %s2: i8[2] = all 37
        %y = ConvInt8({POINT}, x_zero=-128, y_zero=0)(%t, %v, %c, %m2, %s2)
        output %y
    """)
    assert drop_dead_channels(graph).tensors["t"].shape == (2, 2, kept)


EQUAL = """
    input %x: i8[4,4,2]
    constant %w: i8[3,1,1,2] = [3, 4, 5, -6, 3, 4]
    constant %b: i32[3] = {b}
    constant %m: i32[3] = {m}
    constant %s: i8[3] = all 37
    %t = ConvInt8(window=Window(kernel=[1, 1]), x_zero=0, y_zero=-128)(%x, %w, %b, %m, %s)
    constant %table: i8[256] = random 1
    %u = Lookup()(%t, %table)
    constant %v: i8[1,3,3,3] = all {v}
    constant %b1: i32[1] = [7]
    constant %m1: i32[1] = all 1073741824
    constant %s1: i8[1] = all 37
    %y = ConvInt8(window=Window(kernel=[3, 3], pads=[1, 1, 1, 1]), x_zero=5, y_zero=0)(%u, %v, %b1, %m1, %s1)
    output %y
"""


@pytest.mark.parametrize(
    ("b", "m", "v", "kept"),
    [
        ("[9, 9, 9]", "all 1073741824", 2, [2, 4]),
        ("[9, 9, 9]", "all 1073741824", 63, [63, 126]),
        ("[9, 9, 9]", "all 1073741824", 64, None),  # the sum of both weights is no int8
        ("[9, 9, 10]", "all 1073741824", 2, None),
        ("[9, 9, 9]", "[1073741824, 1073741824, 1073741825]", 2, None),
    ],
)
def test_of_equal_channels_one_is_read(b: str, m: str, v: int, kept: list[int] | None) -> None:
    """The first and the third, through a table, before padding."""
    graph = read(EQUAL.format(b=b, m=m, v=v))
    after = same_bits(graph, some_inputs(graph, 20, np.random.default_rng(4)))
    if kept is None:
        assert after is graph
    else:
        weights = after.constants[after.nodes[-1].inputs[1]]
        assert sorted(set(weights.ravel().tolist())) == kept
        assert after.tensors["u"].shape == (4, 4, 2)


def test_equal_constants_beside_padding_are_one() -> None:
    """They cannot be in the bias, since a tap beside the image does not read them."""
    graph = by_hand(PADDED, b="[9, 9, 99999, 99999, 9]", zero=-128)
    after = same_bits(graph, some_inputs(graph, 10, np.random.default_rng(4)))
    assert after.tensors["t"].shape == (2, 2, 4), "the third and the fourth are always 127"


def test_one_channel_repeated_is_read_once() -> None:
    """Grey images for a model of colours."""
    graph = read(f"""
        input %x: i8[3,3,1]
        %rgb = Expand([3, 3, 3])(%x)
        constant %v: i8[1,1,1,3] = [40, 40, 40]
        constant %b1: i32[1] = [7]
        constant %m1: i32[1] = all 1073741824
        constant %s1: i8[1] = all 37
        %y = ConvInt8({POINT}, x_zero=3, y_zero=0)(%rgb, %v, %b1, %m1, %s1)
        output %y
    """)
    after = same_bits(graph, some_inputs(graph, 4, np.random.default_rng(0)))
    assert after.constants[after.nodes[-1].inputs[1]].ravel().tolist() == [120]


def test_a_wrong_number_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels that are said to be equal and are not: the bits differ."""

    def same(known: ValueNumbers, made: object) -> int:
        return 1

    monkeypatch.setattr(ValueNumbers, "number", same)
    graph = read(EQUAL.format(b="[9, 9, 999]", m="all 1073741824", v=2))
    with pytest.raises(AssertionError):
        same_bits(graph, some_inputs(graph, 10, np.random.default_rng(4)))


def test_tensors_without_elements_have_no_channels() -> None:
    graph = read("""
        input %x: i8[2,3]
        constant %none: i8[0,3] = []
        %y = Concat(0)(%x, %none)
        output %y
    """)
    assert drop_dead_channels(graph) is graph


def test_floats_stay() -> None:
    """A sum of fewer terms is taken in another order."""
    graph = read("""
        input %x: f32[2,2,1]
        constant %w: f32[4,1,1,1] = [1, 0, 0, 2]
        constant %b: f32[4] = [0, 0, -1, 0]
        %t = Conv(window=Window(kernel=[1, 1]), activation=Clamp(0, 0))(%x, %w, %b)
        constant %v: f32[1,1,1,4] = [1, 2, 3, 4]
        constant %c: f32[1] = [0]
        %y = Conv(window=Window(kernel=[1, 1]))(%t, %v, %c)
        output %y
    """)
    assert drop_dead_channels(graph) is graph


def test_what_was_left_out_survives_in_text() -> None:
    graph = drop_dead_channels(next(g for g in map(int8_graph, range(9)) if drop_dead_channels(g).removed))
    port = replace(graph.inputs[0], channels=(0, 2))
    graph = replace(graph, origins={port.tensor: port})
    back = parse_graph(str(graph), OPS, graph.constants)
    assert graph.removed
    assert back.removed == graph.removed
    assert back.origins == graph.origins
