# SPDX-License-Identifier: Apache-2.0
"""Operators with several results: through importer, planner, checker, C, and against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import mmcc
import numpy as np
import onnx
import pytest
from fused_c import filled, request, run
from mmcc.checker.plan import check_plan
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate
from mmcc.ir.plan import Place
from mmcc.ir.regions import SRAM
from mmcc.ops.elementwise import Unary
from mmcc.planner.api import best_plan
from mmcc.target import list_targets
from mmcc.verification.oracle import Oracle
from onnx import TensorProto, helper
from planner_graphs import Build
from several_results import RnnCell, Split, kernels
from toolchains import emulated_on, ready

RELU = Unary("clamp", (0.0, float("inf")))
PLANS = {
    "layers": {},
    "min": {"ram": "min"},
    "external": {"ram": "min", "io": "external"},
    "rows": {"ram": "min", "io": "rows"},
    "staged": {"weights": "staged"},
}
BOARDS = [name for name in list_targets() if name not in ("host", "cortex-m")]


def model(nodes, shape, outputs, constants=(), dtype=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "several",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [onnx.numpy_helper.from_array(np.array(value), name) for name, value in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def top_k(axis: int, count: int, shape, largest: int = 1):
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("TopK", ["s", "k"], ["v", "i"], axis=axis, largest=largest),
        helper.make_node("Neg", ["v"], ["w"]),
    ]
    return model(nodes, shape, {"w": TensorProto.FLOAT, "i": TensorProto.INT64}, [("k", [count])])


def pool_with_indices(shape, **attributes):
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),  # many equal values
        helper.make_node("MaxPool", ["r"], ["v", "i"], **attributes),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "v"], ["z"]),
    ]
    return model(nodes, shape, {"z": TensorProto.FLOAT, "i": TensorProto.INT64})


def quantized(kind: str, integers: type, **attributes):
    """The operator between DequantizeLinear and QuantizeLinear; its second result is an output."""
    numbers = [("s", np.float32(0.05)), ("z", integers(3)), ("k", [3])]
    operands = ["d", "k"] if kind == "TopK" else ["d"]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node(kind, operands, ["v", "i"], **attributes),
        helper.make_node("QuantizeLinear", ["v", "s", "z"], ["w"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"]),
    ]
    return model(nodes, [1, 8, 4, 4], {"y": TensorProto.FLOAT, "i": TensorProto.INT64}, numbers)


def values_only():
    """Nobody reads the indices, and of the values only a part is."""
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=1),
        helper.make_node("Flatten", ["v"], ["f"]),
        helper.make_node("Slice", ["f", "from", "to", "axis"], ["y"]),
    ]
    constants = [("k", [3]), ("from", [3]), ("to", [20]), ("axis", [1])]
    return model(nodes, [1, 8, 4, 4], {"y": TensorProto.FLOAT}, constants)


MODELS = {
    "channels": top_k(1, 3, [1, 8, 5, 6]),
    "width": top_k(3, 2, [1, 3, 4, 9]),
    "height": top_k(2, 5, [1, 3, 5, 4], largest=0),
    "vector": top_k(1, 10, [1, 10]),
    "one": top_k(1, 1, [1, 7], largest=0),
    "sequence": top_k(2, 2, [1, 6, 5]),
    "pool": pool_with_indices([1, 4, 9, 8], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "pool_dilated": pool_with_indices([1, 2, 9, 9], kernel_shape=[2, 3], dilations=[2, 2]),
    "pool_ceil": pool_with_indices([1, 3, 7, 8], kernel_shape=[2, 2], strides=[2, 3], ceil_mode=1),
    "values_only": values_only(),
    "top_k_int8": quantized("TopK", np.int8, axis=1),
    "top_k_uint8": quantized("TopK", np.uint8, axis=1),
    "pool_int8": quantized("MaxPool", np.int8, kernel_shape=[2, 2]),
    "pool_uint8": quantized("MaxPool", np.uint8, kernel_shape=[2, 2], strides=[2, 2]),
    "pool_line": pool_with_indices([1, 3, 11], kernel_shape=[3], strides=[2]),
}


@pytest.mark.parametrize(("name", "plan"), list(product(MODELS, PLANS)))
def test_models_against_onnx_runtime(name, plan, tmp_path):
    """compile runs the C against the references by itself; verify asks ONNX Runtime."""
    onnx.save(MODELS[name], tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m", **PLANS[plan])
    assert mmcc.verify(tmp_path / "m", per_node=True)["ok"]


@pytest.mark.parametrize("target", BOARDS)
def test_on_every_target(target, tmp_path):
    on = emulated_on(ready(target))
    for name in ("channels", "pool"):
        onnx.save(MODELS[name], tmp_path / f"{name}.onnx")
        mmcc.compile_model(tmp_path / f"{name}.onnx", tmp_path / name, target=target)
        assert mmcc.verify(tmp_path / name, on=on)["ok"]


@pytest.mark.quick
def test_equal_elements_and_integers(tmp_path):
    """Of equal elements the lower index comes first, and 64-bit integers are compared as such."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=1)]
    made = model(
        nodes, [1, 9], {"v": TensorProto.INT64, "i": TensorProto.INT64}, [("k", [4])], TensorProto.INT64
    )
    onnx.save(made, tmp_path / "m.onnx")
    result = mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m")
    values, indices = result.run([np.array([[3, 2**40, 5, 5, -(2**50), 5, 2**40, 0, 3]], np.int64)])
    assert values.tolist() == [[2**40, 2**40, 5, 5]]
    assert indices.tolist() == [[1, 6, 2, 3]]


@pytest.mark.quick
@pytest.mark.parametrize("largest", [0, 1])
def test_what_is_no_number_is_the_largest(largest, tmp_path):
    """As in ONNX Runtime; infinities are numbers."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["v", "i"], axis=1, largest=largest)]
    made = model(nodes, [1, 9], {"v": TensorProto.FLOAT, "i": TensorProto.INT64}, [("k", [7])])
    onnx.save(made, tmp_path / "m.onnx")
    x = np.array([[1, np.nan, 5, -np.inf, np.nan, 0, np.inf, 2, -0.0]], np.float32)
    got = mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "m").run([x])
    want = Oracle(tmp_path / "m.onnx", ["v", "i"]).run({"x": x})
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def split_graph() -> Graph:
    """A Split whose first part is joined with the second again, and a part that nobody reads."""
    b = Build("split")
    x = b.add(RELU, b.input(6, 5, 9, dtype=ElementType.F32))
    first, second, _ = b.add_all(Split((2, 4, 3)), x)
    return b.graph(b.concat(2, b.add(RELU, second), first), first)


def rnn_graph() -> Graph:
    """A cell between elementwise functions; its last row is an output of its own."""
    b = Build("rnn")
    x = b.add(RELU, b.input(7, 3, dtype=ElementType.F32))
    sizes = ((4, 3), (4, 4), (4,))
    every, last = b.add_all(RnnCell(), x, *(b.constant(np.zeros(size, np.float32)) for size in sizes))
    return b.graph(b.add(RELU, every), last)


@pytest.fixture
def with_kernels(tmp_path: Path) -> Iterator[None]:
    with kernels(tmp_path / "templates"):
        yield


@pytest.mark.quick
@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("make", [split_graph, rnn_graph])
@pytest.mark.parametrize("external", [False, True])
def test_kernels_of_tests(make, external, tmp_path: Path):
    """Each way to plan it gives the reference's results."""
    graph = filled(make(), 3)
    rng = np.random.default_rng(0)
    want: list[bytes] = []
    for _ in range(3):
        given = {p.onnx_name: rng.standard_normal(p.onnx_shape).astype(np.float32) for p in graph.inputs}
        want += [array.tobytes() for array in evaluate(graph, given).values()]
    for fuse in (False, True):
        plan = best_plan(graph, request(graph, external=external, fuse=fuse))
        assert check_plan(graph, plan) == []
        found = run(graph, plan, tmp_path / f"fused_{fuse}")
        for mine, theirs in zip(found, want, strict=True):
            np.testing.assert_allclose(*(np.frombuffer(a, np.float32) for a in (mine, theirs)), atol=1e-6)


@pytest.mark.quick
@pytest.mark.usefixtures("with_kernels")
@pytest.mark.parametrize("make", [split_graph, rnn_graph])
def test_a_result_over_an_input_is_convicted(make):
    """The least plan, and then each result moved to where the node's input lies."""
    graph = make()
    plan = best_plan(graph, request(graph, fuse=True))
    node = next(node for node in graph.nodes if len(node.outputs) > 1)
    read = plan.slots[node.inputs[0]].buffer
    for name in node.outputs:
        own = plan.slots[name].buffer
        if own == read:
            continue
        moved = replace(plan, places=plan.places | {own: Place(SRAM, plan.places[read].offset)})
        assert check_plan(graph, moved)


@pytest.mark.quick
@pytest.mark.usefixtures("with_kernels")
def test_a_result_joins_no_group():
    graph = split_graph()
    plan = best_plan(graph, request(graph, fuse=True))
    index = next(k for k, node in enumerate(graph.nodes) if len(node.outputs) > 1)
    others = [k for group in plan.groups for k in group.nodes if k != index]
    groups = (replace(plan.groups[0], nodes=(min(others), index)), *plan.groups)
    assert any("not alone and whole" in text for text in check_plan(graph, replace(plan, groups=groups)))
