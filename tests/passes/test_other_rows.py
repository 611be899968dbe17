# SPDX-License-Identifier: Apache-2.0
"""Columns as rows: rules against references, random graphs against themselves, C against ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from graphs import Builder, run
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.driver.rows import plan_rows
from mmcc.frontend import import_model
from mmcc.ir.element_type import ElementType
from mmcc.ir.graph import Graph
from mmcc.ir.module import Entry, Module
from mmcc.ir.regions import SRAM
from mmcc.ir.verify import check_final, check_graph
from mmcc.ops.elementwise import Unary
from mmcc.ops.movement import Transpose
from mmcc.ops.pool import MaxPool
from mmcc.ops.stream import ReadRows, WriteRows
from mmcc.ops.window import Window
from mmcc.passes import optimize
from mmcc.passes.other_rows import other_rows
from mmcc.passes.other_rows.rules import RULES, WINDOWS, front, turned
from mmcc.passes.stream_ports import stream_ports
from mmcc.planner.api import best_plan
from mmcc.planner.request import PlanRequest
from onnx import TensorProto, helper
from op_case import OpCase
from op_cases_float import FAMILIES as FLOAT
from op_cases_int8 import FAMILIES as INT8
from test_passes_random import Grower

CASES = [case for family in (*FLOAT.values(), *INT8.values()) for case in family()]


def leads_of(case: OpCase, axis: int) -> list[int | None]:
    """The axis that leads each activation if one axis leads the result."""
    rank = max(len(t.shape) for t in case.tensors)
    return [
        axis - rank + len(t.shape) if not case.is_constant(k) and len(t.shape) > rank - axis else None
        for k, t in enumerate(case.tensors)
    ]


@pytest.mark.quick
def test_every_rule_gives_what_the_reference_does() -> None:
    tried: set[type] = set()
    for case in CASES:
        rank = max((len(t.shape) for t in case.tensors), default=0)
        for axis in range(1, rank - 1):
            leads = leads_of(case, axis)
            (shape, dtype), *others = case.op.results(*case.tensors)
            output = replace(case.tensors[0], shape=shape, dtype=dtype)
            found = None if others else turned(case.op, case.tensors, leads, output)
            if found is None:
                continue
            inputs = [moved(case.inputs[k], order) for k, order in found.operands]
            (made,), (wanted,) = found.op.reference(*inputs), case.op.reference(*case.inputs)
            wanted = moved(wanted, found.result)
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(made, wanted, rtol=1e-5, atol=1e-5, err_msg=case.name)
            else:
                np.testing.assert_array_equal(made, wanted, err_msg=case.name)
            tried.add(type(case.op))
    assert tried >= set(RULES)
    assert tried >= WINDOWS


def moved(data: np.ndarray, order: tuple[int, ...] | None) -> np.ndarray:
    if order is None:
        return data
    return np.ascontiguousarray(data.reshape((1,) * (len(order) - data.ndim) + data.shape).transpose(order))


@pytest.mark.quick
def test_the_axis_that_leads_is_never_that_of_channels() -> None:
    assert front(4, 2) == (2, 0, 1, 3)
    x = Builder()
    name = x.op(Transpose((2, 0, 1)), x.input("x", 2, 3, 4))
    graph = x.graph(name)
    node = graph.nodes[0]
    found = turned(node.op, graph.operands(node), [1], graph.tensors[node.output])
    assert found is not None
    assert found.result is None  # [W, H, C] to [C, H, W]: columns would be its channels


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.quick
def test_random_graphs_compute_the_same(seed: int) -> None:
    grower = Grower(seed, quantized=seed % 2 == 0, exact=False)
    for _ in range(14):
        grower.grow()
    graph = optimize(grower.b.graph(*dict.fromkeys(grower.pool[-3:])))
    other = other_rows(graph)
    if other is None:
        return
    assert not check_graph(other) + check_final(other)
    assert [p.tensor for p in other.inputs] == [p.tensor for p in graph.inputs]
    assert [other.tensors[p.tensor].shape for p in other.outputs] == [
        graph.tensors[p.tensor].shape for p in graph.outputs
    ]
    rng = np.random.default_rng(seed)
    inputs = [random_of(graph, port.tensor, rng) for port in graph.inputs]
    fed = other_rows(stream_ports(graph, again=False))
    if fed is not None:  # callers bring and take rows of the model's own axis
        assert not check_graph(fed) + check_final(fed)
        for node in fed.nodes:
            if isinstance(node.op, (ReadRows, WriteRows)):
                port = (graph.inputs if isinstance(node.op, ReadRows) else graph.outputs)[node.op.port]
                assert fed.tensors[node.output].shape == graph.tensors[port.tensor].shape
                names = fed.input_names if isinstance(node.op, ReadRows) else fed.output_names
                assert {node.inputs[0], node.output} & names
    for made, wanted in zip(run(other, *inputs), run(graph, *inputs), strict=True):
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(made, wanted)


def random_of(graph: Graph, name: str, rng: np.random.Generator) -> np.ndarray:
    tensor = graph.tensors[name]
    if tensor.dtype.is_float:
        return rng.normal(size=tensor.shape).astype(np.float32)
    return rng.integers(-128, 128, tensor.shape).astype(tensor.dtype.numpy)


def looks_along_its_width(path: Path) -> Path:
    """A float model that takes means over the height of each column, and pools; windows are not square."""
    rng = np.random.default_rng(3)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, shape, rng.normal(size=shape).ravel())

    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 0, 1, 2], kernel_shape=[3, 3]),
        helper.make_node("Conv", ["a", "w1"], ["b"], group=12, pads=[2, 1, 1, 1], kernel_shape=[4, 3]),
        helper.make_node("ReduceMean", ["b"], ["m"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["b", "m"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[2, 3], strides=[2, 1], pads=[0, 1, 0, 1]),
        helper.make_node("AveragePool", ["d"], ["e"], kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
        helper.make_node("Conv", ["e", "w2"], ["f"], kernel_shape=[10, 5]),
        helper.make_node("Relu", ["f"], ["g"]),
        helper.make_node("ReduceMean", ["g"], ["y"], axes=[3], keepdims=1),
    ]
    made = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 20, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6, 1, 1])],
        [weights("w0", 12, 2, 3, 3), weights("w1", 12, 1, 4, 3), weights("w2", 6, 12, 10, 5)],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_net_that_looks_along_its_width_needs_less_and_gives_the_same_bits(tmp_path: Path) -> None:
    model = looks_along_its_width(tmp_path / "wide.onnx")
    large = compile_model(model, tmp_path / "large")
    small = compile_model(model, tmp_path / "small", CompileOptions(least_ram=True))
    assert small.graph.tensors != large.graph.tensors
    assert any(isinstance(node.op, Transpose) for node in small.graph.nodes)
    assert 2 * small.report["ram"]["arena"] < best_plan(large.graph, PlanRequest()).peak(SRAM)
    session = ort.InferenceSession(model)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(1, 2, 20, 40)).astype(np.float32)
        (made,), (same,) = small.run([x[0]]), large.run([x[0]])
        assert made.tobytes() == same.tobytes()
        np.testing.assert_allclose(made, session.run(None, {"x": x})[0].reshape(made.shape), rtol=1e-4)


def test_what_is_proved_is_proved_of_both(tmp_path: Path) -> None:
    model = looks_along_its_width(tmp_path / "wide.onnx")
    module = Module.of(optimize(import_model(model)))
    other = other_rows(module.entries[0].graph)
    assert other is not None
    turned_module = Module.of(other)
    least = [
        plan_rows(each, {"run": PlanRequest()}, lambda _: PlanRequest()).memory.entries["run"]
        for each in (module, turned_module)
    ]
    assert least[0].peak(SRAM) == least[1].peak(SRAM)
    assert all(plan.bound <= plan.peak(SRAM) for plan in least)
    size = least[0].peak(SRAM)
    for limit in (size, size + 500):
        asked = {"run": PlanRequest(limit=limit)}
        planned = plan_rows(module, asked, lambda _: PlanRequest())
        assert planned.memory.entries["run"].peak(SRAM) <= limit
        assert planned.memory.entries["run"].bound <= size


@pytest.mark.quick
def test_nothing_is_claimed_where_other_rows_were_not_tried() -> None:
    """As in `mmcc link`, or with functions of the user's."""
    b = Builder()
    x = b.input("x", 6, 40, 2, dtype=ElementType.F32)
    graph = b.graph(b.op(Unary("abs"), b.op(MaxPool(Window((5, 1), pads=(2, 0, 2, 0))), x)))
    assert other_rows(graph) is not None
    asked = PlanRequest()
    alone = plan_rows(Module.of(graph), {"run": asked}, lambda _: asked)
    assert alone.memory.entries["run"].proved_optimal
    module = Module("two", (Entry("a", graph), Entry("b", graph)))
    linked = plan_rows(module, {"a": asked, "b": asked}, lambda _: asked).memory.entries["a"]
    assert linked.proved_optimal == (linked.peak(SRAM) == linked.bound)
    assert linked.bound <= alone.memory.entries["run"].peak(SRAM)
