# SPDX-License-Identifier: Apache-2.0
"""Small random quantized models: the integer graph against ONNX Runtime, output by output.

One step of difference is allowed where the exact value lies between two steps (a tie: ONNX Runtime rounds
halves to even, mmcc rounds them up), and elsewhere in very few outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from graphs import ops, run
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.verify import check_final
from mmcc.ops.quantize import Quantize
from mmcc.passes import optimize
from ort_models import I8, LAYERS, U8, Model, ort


@dataclass
class Count:
    """Outputs of all models of a kind: how many differ at a tie, and elsewhere."""

    outputs: int = 0
    ties: int = 0
    others: int = 0


def exact(graph: Graph, inputs: list[np.ndarray]) -> np.ndarray:
    """The last Quantize's input over its scale, in float64 throughout: where between steps it lies."""
    values = {name: data.astype(np.float64) for name, data in graph.constants.items()}
    for port, data in zip(graph.inputs, inputs, strict=True):
        values[port.tensor] = port.to_c(data, graph.tensors[port.tensor]).astype(np.float64)
    for node in graph.nodes:
        given = [values[name] for name in node.inputs]
        values[node.output] = _exact(node.op, given)
    last = graph.producer[graph.outputs[0].tensor]
    while not isinstance(last.op, Quantize):
        last = graph.producer[last.inputs[0]]
    return values[last.inputs[0]] / float(np.float32(last.op.scale))


def _exact(op: object, given: list[np.ndarray]) -> np.ndarray:
    match type(op).__name__:
        case "Dequantize":
            return (given[0] - op.zero_point) * float(np.float32(op.scale))
        case "DequantizeConstant":
            shape = [1] * given[0].ndim
            if op.axis is not None:
                shape[op.axis] = len(op.scales)
            scales = np.array(op.scales, np.float32).astype(np.float64).reshape(shape)
            return (given[0] - np.array(op.zero_points).reshape(shape)) * scales
        case "Reduce":
            return given[0].mean(op.axes, keepdims=True)
        case "Quantize":
            return given[0]
        case _:
            return op.reference(*given)[0]


def compare(make: Callable[[Model], str], seeds: range, folder: Path) -> Count:
    count = Count()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        model = Model(rng, *((I8, I8), (U8, I8), (U8, U8), (I8, I8))[seed % 4])
        path = folder / f"{seed}.onnx"
        model.write(make(model), path)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = import_model(path)
        after = optimize(graph)
        assert check_final(after) == []
        assert after.warnings == (), after.warnings
        assert not {"Quantize", "Dequantize"} & set(ops(after)), str(after)
        for _ in range(4):
            info = np.iinfo(model.dtype)
            shapes = [tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in model.inputs]
            inputs = [rng.integers(info.min, info.max, s, dtype=model.dtype, endpoint=True) for s in shapes]
            feed = {i.name: data for i, data in zip(model.inputs, inputs, strict=True)}
            _tally(count, graph, after, inputs, session.run(None, feed)[0])
    return count


def _tally(count: Count, graph: Graph, after: Graph, inputs: list[np.ndarray], want: np.ndarray) -> None:
    got = run(after, *inputs)[0]
    difference = np.abs(got.astype(int) - want.astype(int))
    assert difference.max() <= 1
    count.outputs += got.size
    if difference.any():
        real = exact(graph, inputs)
        port = graph.outputs[0]
        tensor = graph.tensors[port.tensor]
        wrong = port.to_c(difference, tensor)[...].astype(bool)
        tie = np.abs(np.abs(real - np.floor(real)) - 0.5).reshape(tensor.shape) < 1e-6
        count.ties += int((wrong & tie).sum())
        count.others += int((wrong & ~tie).sum())


@pytest.mark.quick
@pytest.mark.parametrize("make", LAYERS)
def test_a_layer_agrees_with_onnx_runtime(make: Callable[[Model], str], tmp_path: Path) -> None:
    count = compare(make, range(24), tmp_path)
    assert count.others <= max(1, 1e-5 * count.outputs), count
    assert count.ties <= 0.01 * count.outputs, count


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "kinds"), [("fp32", {"Conv", "Dense"}), ("int8", {"ConvInt8", "DenseInt8"})]
)
def test_the_digits_models_agree_with_onnx_runtime(name: str, kinds: set[str]) -> None:
    folder = Path(__file__).resolve().parents[2] / "examples" / "digits"
    path = folder / f"digits_{name}.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    graph = optimize(import_model(path))
    assert check_final(graph) == []
    assert kinds <= set(ops(graph))
    assert not {"Conv", "Dense", "Quantize", "Dequantize"} & set(ops(graph)) - kinds
    (port,) = graph.inputs
    rng = np.random.default_rng(3)
    for _ in range(20):
        image = rng.uniform(0, 1, port.onnx_shape).astype(np.float32)
        want = session.run(None, {port.onnx_name: image})[0]
        got = run(graph, image)[0]
        quant = graph.outputs[0].quant
        step = 1e-5 * np.abs(want).max() if quant is None else 2 * quant.scale
        assert np.abs(got - want).max() <= step * 1.001
