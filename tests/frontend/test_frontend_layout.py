# SPDX-License-Identifier: Apache-2.0
"""Lazy layouts: what moves, what does not, and that the elements always end where ONNX has them."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from frontend_models import check, kinds, model_of, save
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcc.frontend import import_model
from mmcc.frontend.builder import Builder
from mmcc.frontend.layouts import innermost, one_axis_each, plain, reshaped, with_axis
from mmcc.frontend.value import refinement, runs, whole
from mmcc.ir.element_type import ElementType
from mmcc.ir.interpret import evaluate_tensors
from mmcc.ir.ports import Port
from mmcc.ir.types import Tensor
from mmcc.passes import optimize
from onnx import helper

pytestmark = pytest.mark.quick
node = helper.make_node


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(tmp_path, nodes, x, constants=None, outputs=("y",), **more):
    return check(model_of(nodes, {"x": x}, outputs, constants, **more), {"x": x}, tmp_path)


W, B = random(4, 3, 3, 3, seed=1), random(4, seed=2)


@pytest.mark.parametrize(
    ("shape", "stream", "axes"),
    [
        ((1, 6, 16), "x:2", (None, 1, 0)),
        ((1, 6, 16), "x:1:2", (None, 0, 1)),
        ((1, 6, 16), "x:0", (None, 0, 1)),
        ((1, 6, 16), "z:2", (None, 0, 1)),
        ((4, 6, 16), "x:2", (1, 2, 0)),
    ],
)
def test_the_axis_of_a_stream_is_the_outermost(shape, stream, axes, tmp_path):
    model = model_of([node("Softmax", ["x"], ["y"])], {"x": np.ones(shape, np.float32)}, ["y"])
    assert import_model(save(model, tmp_path), stream=stream).inputs[0].axes == axes


def test_image_input_is_channels_last_and_so_is_the_output(tmp_path):
    graph = network(tmp_path, [node("Conv", ["x", "w", "b"], ["y"])], random(1, 3, 8, 9), {"w": W, "b": B})
    assert graph.inputs[0].axes == graph.outputs[0].axes == (None, 2, 0, 1)
    assert kinds(graph) == ["Conv"]


def test_pixels_that_come_channels_last_stay_so(tmp_path):
    """tf2onnx writes a Transpose before the first Conv and one behind the last."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w", "b"], ["c"]),
        node("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    graph = network(tmp_path, nodes, random(1, 8, 9, 3), {"w": W, "b": B})
    assert kinds(graph) == ["Conv"]
    assert graph.inputs[0].axes == graph.outputs[0].axes == (None, 0, 1, 2)


def test_flattened_image_goes_into_a_dense_layer_as_it_lies(tmp_path):
    """The weights are reordered, not the pixels."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("Flatten", ["c"], ["f"]),
        node("Relu", ["f"], ["r"]),
        node("Gemm", ["r", "v"], ["y"]),
    ]
    graph = network(tmp_path, nodes, random(1, 3, 6, 6), {"w": W, "b": B, "v": random(64, 5, seed=3)})
    assert kinds(graph) == ["Conv", "Unary", "Reshape", "Dense"]


def test_flattened_image_as_output_has_onnx_order(tmp_path):
    nodes = [node("Conv", ["x", "w", "b"], ["c"]), node("Flatten", ["c"], ["y"])]
    graph = network(tmp_path, nodes, random(1, 3, 6, 6), {"w": W, "b": B})
    assert kinds(graph) == ["Conv", "Transpose", "Reshape"]


def test_broadcast_constants_follow_the_layout(tmp_path):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("Mul", ["c", "k"], ["m"]),
        node("Add", ["m", "row"], ["a"]),
        node("Sub", ["full", "a"], ["y"]),
    ]
    constants = {"w": W, "b": B, "k": random(1, 4, 1, 1), "row": random(5, 1), "full": random(1, 4, 5, 7)}
    graph = network(tmp_path, nodes, random(1, 3, 7, 9), constants)
    assert kinds(graph) == ["Conv", "Binary", "Binary", "Binary"]
    assert graph.tensors["k"].shape == (4,)
    assert graph.tensors["row"].shape == (5, 1, 1)
    assert graph.tensors["full"].shape == (5, 7, 4)


def test_two_layouts_meet(tmp_path):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("ReduceMean", ["c"], ["s"], axes=[2], keepdims=1),
        node("Transpose", ["c"], ["t"], perm=[0, 1, 3, 2]),
        node("Add", ["c", "t"], ["a"]),
        node("Mul", ["a", "s"], ["m"]),
        node("Concat", ["m", "c", "t"], ["y"], axis=1),
    ]
    network(tmp_path, nodes, random(1, 3, 8, 8), {"w": W, "b": B})


def test_attention_heads(tmp_path):
    """Reshape, Transpose, MatMul, Softmax, MatMul, Transpose, Reshape, as transformers have them."""
    nodes = [
        node("MatMul", ["x", "wq"], ["q0"]),
        node("MatMul", ["x", "wk"], ["k0"]),
        node("Reshape", ["q0", "split"], ["q1"]),
        node("Reshape", ["k0", "split"], ["k1"]),
        node("Transpose", ["q1"], ["q"], perm=[0, 2, 1, 3]),
        node("Transpose", ["k1"], ["k"], perm=[0, 2, 3, 1]),
        node("MatMul", ["q", "k"], ["s"]),
        node("Softmax", ["s"], ["p"], axis=-1),
        node("MatMul", ["p", "q"], ["o"]),
        node("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3]),
        node("Reshape", ["o1", "join"], ["o2"]),
        node("MatMul", ["o2", "wk"], ["y"]),
    ]
    constants = {
        "wq": random(12, 12, seed=1),
        "wk": random(12, 12, seed=2),
        "split": np.array([1, -1, 3, 4]),
        "join": np.array([1, 5, 12]),
    }
    graph = network(tmp_path, nodes, random(1, 5, 12), constants)
    assert "Transpose" not in kinds(graph)  # heads lie side by side: rows are queries


def test_channel_shuffle_is_one_transpose(tmp_path):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("Reshape", ["c", "cut"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["t", "back"], ["s"]),
        node("Conv", ["s", "v"], ["y"]),
    ]
    constants = {
        "w": W,
        "b": B,
        "v": random(4, 4, 1, 1),
        "cut": np.array([0, 2, 2, 6, 6]),
        "back": np.array([1, 4, 6, 6]),
    }
    graph = network(tmp_path, nodes, random(1, 3, 8, 8), constants)
    assert [k for k in kinds(graph) if k != "Reshape"] == ["Conv", "Transpose", "Conv"]


def test_batch_of_images(tmp_path):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"]),
        node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]),
        node("Relu", ["p"], ["y"]),
    ]
    graph = network(tmp_path, nodes, random(2, 3, 8, 9), {"w": W, "b": B})
    assert graph.inputs[0].axes == (0, 3, 1, 2)
    sample = ["Slice", "Reshape", "Conv", "MaxPool", "Reshape"]
    assert sorted(kinds(graph)) == sorted([*sample, *sample, "Concat", "Unary"])


def test_quantized_weights_stay_integers_in_conv_layout(tmp_path):
    ints = np.random.default_rng(0).integers(-99, 99, (3, 3, 3, 4)).astype(np.int8)  # HWIO
    nodes = [
        node("Identity", ["w"], ["w1"]),
        node("Transpose", ["w1"], ["w2"], perm=[3, 2, 0, 1]),
        node("DequantizeLinear", ["w2", "s", "z"], ["wf"], axis=0),
        node("Conv", ["x", "wf"], ["y"]),
    ]
    constants = {"w": ints, "s": np.arange(1, 5, dtype=np.float32) / 100, "z": np.zeros(4, np.int8)}
    graph = network(tmp_path, nodes, random(1, 3, 8, 8), constants)
    assert kinds(graph) == ["DequantizeConstant", "Conv"]
    dequantize = graph.nodes[0]
    assert graph.tensors[dequantize.inputs[0]] == Tensor(dequantize.inputs[0], (4, 3, 3, 3), ElementType.I8)
    assert dequantize.op.axis == 0
    assert dequantize.inputs[0].startswith("w")


def test_quantized_weights_are_transposed_behind_their_dequantize(tmp_path):
    ints = np.random.default_rng(0).integers(-99, 99, (6, 5)).astype(np.int8)
    nodes = [
        node("DequantizeLinear", ["w", "s"], ["f"], axis=0),
        node("Transpose", ["f"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["y"]),
    ]
    scales = np.arange(1, 7, dtype=np.float32) / 100
    graph = network(tmp_path, nodes, random(1, 5), {"w": ints, "s": scales})
    assert kinds(graph) == ["DequantizeConstant", "Dense"]
    assert graph.nodes[0].op.axis == 0


def test_one_scale_for_a_vector_is_a_scale_for_all(tmp_path):
    nodes = [node("DequantizeLinear", ["w", "s"], ["f"], axis=1), node("MatMul", ["x", "f"], ["y"])]
    w = np.full((5, 1), 3, np.int8)
    graph = network(tmp_path, nodes, random(1, 5), {"w": w, "s": np.array([0.1], np.float32)})
    assert graph.nodes[0].op.axis is None


def test_wide_weights_become_float_and_blocked_ones_stay(tmp_path):
    w = np.random.default_rng(0).integers(-999, 999, (4, 6)).astype(np.int16)
    nodes = [node("DequantizeLinear", ["w", "s"], ["f"]), node("MatMul", ["x", "f"], ["y"])]
    graph = network(tmp_path, nodes, random(1, 4), {"w": w, "s": np.array(0.1, np.float32)}, opset=21, ir=10)
    assert kinds(graph) == ["DequantizeConstant", "Dense"]
    assert kinds(optimize(graph)) == ["Dense"]
    nodes[0] = node("DequantizeLinear", ["w", "s"], ["f"], axis=0, block_size=2)
    constants = {"w": w.astype(np.int8), "s": random(2, 6, seed=1) ** 2 + 0.1}
    graph = network(tmp_path, nodes, random(1, 4), constants, opset=21, ir=10)
    assert kinds(graph) == ["DenseBlocked"]


# the algebra


@st.composite
def steps(draw):
    """A shape, and transposes and reshapes to be applied to it."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    moves = []
    now = shape
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            perm = draw(st.permutations(range(len(now))))
            moves.append(("transpose", tuple(perm)))
            now = tuple(now[k] for k in perm)
        else:
            left, new = prod(now), []
            while left > 1 and len(new) < 4:
                factor = draw(st.sampled_from([d for d in range(1, left + 1) if left % d == 0]))
                new.append(factor)
                left //= factor
            new.append(left)
            moves.append(("reshape", tuple(new)))
            now = tuple(new)
    return shape, moves


@given(steps())
@settings(max_examples=150, deadline=None)
def test_layouts_against_numpy(case):
    shape, moves = case
    build = Builder(budget=0)
    tensor = build.tensor(shape, ElementType.F32, "x")
    value, want = whole(tensor, range(len(shape))), np.arange(prod(shape), dtype=np.float32).reshape(shape)
    start = want
    for kind, argument in moves:
        if kind == "transpose":
            value, want = value.transposed(argument), want.transpose(argument)
        else:
            value, want = reshaped(build, value, argument), want.reshape(argument)
        assert value.shape == want.shape
    results = {"plain": plain(build, value), "single": one_axis_each(build, value).tensor}
    single = one_axis_each(build, value)
    axis = len(want.shape) - 1
    tail = innermost(build, value, [0])
    port = Port("y", "y", want.shape, ElementType.F32, tuple(a[0] if a else None for a in single.axes))
    graph = build.finish(
        "g", [Port(tensor.name, "x", shape, ElementType.F32, tuple(range(len(shape))))], [], {}
    )
    arrays = evaluate_tensors(_all(build, graph), {tensor.name: start})
    np.testing.assert_array_equal(arrays[results["plain"]].reshape(want.shape), want)
    np.testing.assert_array_equal(port.from_c(arrays[results["single"]], build.tensors[single.tensor]), want)
    inner = set(tail.atoms([0]))
    assert set(tail.solid[len(tail.solid) - len(inner) :]) == inner
    lead, at = with_axis(build, value, axis)
    assert lead.view[at] == want.shape[axis]


def _all(build, graph):
    """The graph with every node the builder made, dead or not."""
    object.__setattr__(graph, "nodes", tuple(build.nodes))
    object.__setattr__(graph, "tensors", dict(build.tensors))
    return graph


def test_runs_and_refinement():
    assert runs((6, 4), (2, 3, 4)) == [[0, 1], [2]]
    assert runs((24,), (2, 3, 4)) == [[0, 1, 2]]
    assert runs((4, 6), (2, 3, 4)) is None
    assert runs((5, 1, 3), (5, 1, 3)) == [[0], [1], [2]]
    assert refinement([12], [3, 4]) == [[3, 4]]
    assert refinement([2, 6], [4, 3]) == [[2], [2, 3]]
    assert refinement([4, 6], [6, 4]) is None


@pytest.mark.parametrize(
    ("onnx_shape", "axes", "c_shape"),
    [
        ((1, 3, 4, 5), (None, 2, 0, 1), (4, 5, 3)),
        ((1, 3, 7), (None, 2, 0), (7, 1, 3)),
        ((2, 3, 4, 5), (0, 3, 1, 2), (2, 4, 5, 3)),
        ((1, 9), (None, 0), (9,)),
        ((1, 1), (None, None), (1, 1, 1)),
        ((), (), ()),
    ],
)
def test_port_round_trip(onnx_shape, axes, c_shape):
    port, tensor = Port("t", "x", onnx_shape, ElementType.F32, axes), Tensor("t", c_shape)
    x = random(*onnx_shape) if onnx_shape else np.array(0.5, np.float32)
    there = port.to_c(x, tensor)
    assert there.shape == c_shape
    assert there.flags.c_contiguous
    np.testing.assert_array_equal(port.from_c(there, tensor), x)
    assert port.from_c(there, tensor).shape == onnx_shape
