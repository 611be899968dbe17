# SPDX-License-Identifier: Apache-2.0
"""Between quantized values, operators that choose elements choose integers: exactly what ONNX Runtime has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import onnx_runtime
from graphs import ops
from mmcc.frontend import import_model
from mmcc.ir.graph import Graph
from mmcc.ir.interpret import evaluate
from mmcc.passes import optimize
from onnx import TensorProto, helper
from ort_models import I8, U8, Model

pytestmark = pytest.mark.quick

SHAPE = (1, 5, 7)


def other_input(m: Model, kind: int, *shape: int) -> str:
    """An input of integers or truths."""
    name = f"x{len(m.inputs)}"
    m.inputs.append(helper.make_tensor_value_info(name, kind, shape))
    return name


def where(m: Model) -> str:
    condition = other_input(m, TensorProto.BOOL, 1, 5, 1)
    (a, _), (b, _) = m.input(*SHAPE), m.input(1, 1, 7)
    return m.op("Where", condition, a, b)


def where_number(m: Model) -> str:
    """As attention masks are written: what must not count is a large negative number."""
    condition = m.constant(np.tril(np.ones((5, 7), bool)))
    return m.op("Where", condition, m.input(*SHAPE)[0], m.constant(np.float32(-1e9)))


def where_clipped(m: Model) -> str:
    chosen = where(m)
    return m.op("Clip", chosen, m.constant(np.float32(-0.8)), m.constant(np.float32(1.1)))


def gather(m: Model) -> str:
    x, index = m.input(*SHAPE)[0], other_input(m, TensorProto.INT64, 3)
    return m.op("Gather", x, index, axis=1)


def table(m: Model, scales: np.ndarray) -> str:
    data = m.rng.integers(-128, 128, (9, 7)).astype(np.int8)
    return m.dequantized(data, scales, np.int8(0), 0)


def embedding(m: Model) -> str:
    return m.op("Gather", table(m, np.float32(0.031)), other_input(m, TensorProto.INT64, 1, 5), axis=0)


def embedding_by_rows(m: Model) -> str:
    return m.op(
        "Gather", table(m, m.scale(0.01, 0.05, (9,))), other_input(m, TensorProto.INT64, 1, 5), axis=0
    )


def gather_elements(m: Model) -> str:
    x, index = m.input(*SHAPE)[0], other_input(m, TensorProto.INT64, 1, 5, 2)
    return m.op("GatherElements", x, index, axis=2)


def gather_nd(m: Model) -> str:
    return m.op("GatherND", m.input(*SHAPE)[0], other_input(m, TensorProto.INT64, 1, 3, 1), batch_dims=1)


def scatter_elements(m: Model) -> str:
    x, index = m.input(*SHAPE)[0], other_input(m, TensorProto.INT64, 1, 2, 7)
    return m.op("ScatterElements", x, index, m.input(1, 2, 7)[0], axis=1)


def scatter_nd(m: Model) -> str:
    x, index = m.input(*SHAPE)[0], m.constant(np.array([[[0, 3], [0, 1]]]))
    return m.op("ScatterND", x, index, m.input(1, 2, 7)[0])


CHOICES = (
    *(where, where_number, where_clipped, gather, embedding, embedding_by_rows),
    *(gather_elements, gather_nd, scatter_elements, scatter_nd),
)


def is_float(graph: Graph) -> list[str]:
    return [name for name, tensor in graph.tensors.items() if tensor.dtype.is_float]


def inputs_of(m: Model) -> dict[str, np.ndarray]:
    given: dict[str, np.ndarray] = {}
    for info in m.inputs:
        kind = info.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        low, high = (
            (0, 2) if dtype in (np.int64, np.bool_) else (np.iinfo(dtype).min, np.iinfo(dtype).max + 1)
        )
        given[info.name] = m.rng.integers(low, high, shape).astype(dtype)
    return given


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.__name__)
def test_what_chooses_between_quantized_values_is_exact(choice, dtype: type, tmp_path: Path) -> None:
    m = Model(np.random.default_rng(5), dtype)
    m.write(m.output(choice(m), 0.02, 0.05), path := tmp_path / "m.onnx")
    graph = optimize(import_model(path))
    assert not is_float(graph), (is_float(graph), ops(graph))
    assert graph.warnings == ()
    for _ in range(3):
        given = inputs_of(m)
        (want,) = onnx_runtime(path, given).values()
        (got,) = evaluate(graph, given).values()
        np.testing.assert_array_equal(got, want)


def test_a_function_of_one_value_is_a_table_also_where_it_chooses(tmp_path: Path) -> None:
    m = Model(np.random.default_rng(6))
    x, _ = m.input(*SHAPE)
    below = m.op("Mul", x, m.constant(np.float32(0.1)))
    y = m.op("Where", m.op("Greater", x, m.constant(np.float32(0))), x, below)
    m.write(m.output(y, 0.02, 0.05), path := tmp_path / "m.onnx")
    assert ops(optimize(import_model(path))) == ["Lookup"]


def test_a_choice_of_floats_stays_one_and_says_so(tmp_path: Path) -> None:
    m = Model(np.random.default_rng(7))
    condition, (x, _) = other_input(m, TensorProto.BOOL, *SHAPE), m.input(*SHAPE)
    y = m.op("Where", condition, m.op("Div", x, m.input(*SHAPE)[0]), x)
    m.write(m.output(y, 0.02, 0.05), path := tmp_path / "m.onnx")
    assert any("where is computed in float" in line for line in optimize(import_model(path)).warnings)


def test_a_constant_beyond_float32_is_added_as_floats(tmp_path: Path) -> None:
    """-127 steps of its scale are no float32, so the result is -128."""
    m = Model(np.random.default_rng(10))
    x, scale = m.input(*SHAPE)[0], np.float32(2.6794e36)
    assert not np.isfinite(np.float32(-127.0) * scale)
    mask = m.dequantized(np.where(np.tri(5, 7) > 0, 0, -127).astype(I8), scale, I8(0), 0)
    zero = m.constant(np.array(0, I8))
    y = m.op("QuantizeLinear", m.op("Add", x, mask), m.constant(scale), zero)
    m.write(y, path := tmp_path / "m.onnx")
    graph = optimize(import_model(path))
    assert any("beyond what float32 has" in line for line in graph.warnings)
    given = inputs_of(m)
    (want,) = onnx_runtime(path, given).values()
    (got,) = evaluate(graph, given).values()
    np.testing.assert_array_equal(got, want)
    assert want.min() == -128


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pads", [0, 1])
def test_the_layers_of_a_convolution_over_three_axes_are_integers(
    groups: int, pads: int, tmp_path: Path
) -> None:
    """At its ends the window lies in the padding, so that layers there have a part of the weights."""
    m = Model(np.random.default_rng(8))
    x, scale = m.input(1, 4, 5, 6, 6)
    w, b = m.weights((6, 4 // groups, 3, 3, 3), scale, 0)
    y = m.op("Conv", x, w, b, pads=[pads] * 6, group=groups)
    m.write(m.output(y, 0.05, 0.3), path := tmp_path / "m.onnx")
    graph = optimize(import_model(path))
    assert not is_float(graph)
    assert graph.warnings == ()
    given = inputs_of(m)
    (want,) = onnx_runtime(path, given).values()
    (got,) = evaluate(graph, given).values()
    assert (got != want).mean() < 1e-3
    assert np.abs(got.astype(int) - want).max() <= 1


@pytest.mark.parametrize("step", [1, -2])
def test_a_part_of_quantized_weights_has_its_scales(step: int, tmp_path: Path) -> None:
    """As one tensor of weights for queries, keys and values is cut."""
    m = Model(np.random.default_rng(9))
    x, _ = m.input(1, 7)
    w = m.dequantized(m.rng.integers(-128, 128, (18, 7)).astype(I8), m.scale(0.001, 0.01, (18,)), I8(0), 0)
    ends = (6, 12) if step == 1 else (12, -19)
    cut = m.op("Slice", w, *(m.constant(np.array([n])) for n in (*ends, 0, step)))
    m.write(m.output(m.op("Gemm", x, cut, transB=1), 0.1, 0.2), path := tmp_path / "m.onnx")
    graph = optimize(import_model(path))
    assert ops(graph) == ["DenseInt8"]
    given = inputs_of(m)
    (want,) = onnx_runtime(path, given).values()
    (got,) = evaluate(graph, given).values()
    assert np.abs(got.astype(int) - want).max() <= 1
    assert len(np.unique(want)) > 2
