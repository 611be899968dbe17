# SPDX-License-Identifier: Apache-2.0
"""What is int8 in a model stays int8: clamps on integers, layers with float results, biases, per-channel ops.

Each against ONNX Runtime, and without a float operator where none is needed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from graphs import ops
from int8_models import FloatModel, difference
from mmcc.ir.graph import Graph
from ort_models import I8, U8, ort

pytestmark = pytest.mark.quick


# ---- clamps

CLAMPS = {
    "clip": lambda m, x, low, high: m.op("Clip", x, m.constant(low), m.constant(high)),
    "clip_low": lambda m, x, low, high: m.op("Clip", x, m.constant(low)),
    "clip_high": lambda m, x, low, high: m.op("Clip", x, "", m.constant(high)),
    "max": lambda m, x, low, high: m.op("Max", x, m.constant(low)),
    "min": lambda m, x, low, high: m.op("Min", m.constant(high), x),
    "max_of_one": lambda m, x, low, high: m.op("Max", m.constant(low.reshape(1)), x),
    "both": lambda m, x, low, high: m.op("Min", m.op("Max", x, m.constant(low)), m.constant(high)),
}


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("kind", CLAMPS)
def test_a_clamp_of_integers_is_no_float(kind: str, dtype: type, tmp_path: Path) -> None:
    """As QCDQ exporters write fewer than eight bits: behind a layer it costs nothing at all."""
    m = FloatModel(np.random.default_rng(3), dtype)
    low, high = (np.array(bound + (128 if dtype is U8 else 0), dtype) for bound in (-20, 31))
    x, scale = m.float_input(1, 3, 9, 8)
    y = m.conv(m.real(x, scale), scale, (4, 3, 3, 3))
    y = CLAMPS[kind](m, m.quantized(y, 0.1), low, high)
    y = m.conv(m.real(y, 0.1), np.float32(0.1), (2, 4, 1, 1))
    after = m.save(m.requantized(y, 0.2), path := tmp_path / "m.onnx")
    assert ops(after) == ["ConvInt8", "ConvInt8"]
    assert after.warnings == ()
    assert difference_or_refused(path, after, m.rng) <= 1e-4


def difference_or_refused(path: Path, after: Graph, rng: np.random.Generator) -> float:
    """The share of outputs that differ; 0 where ONNX Runtime has no kernel for the operator on 8 bits."""
    try:
        gaps = difference(path, after, rng)
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        return 0.0
    assert gaps.max() < 1.01
    return float((gaps > 0.5).mean())


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_a_clamp_of_real_values_that_integers_stand_for_is_one_of_integers(kind: str, tmp_path: Path) -> None:
    """Nobody quantizes between the Relu and the next layer, which still reads int8."""
    m = FloatModel(np.random.default_rng(4))
    x, scale = m.float_input(1, 3, 9, 8)
    y = m.requantized(m.conv(m.real(x, scale), scale, (4, 3, 3, 3)), 0.125)
    y = (
        m.op("Relu", y)
        if kind == "Relu"
        else m.op("Clip", y, m.constant(np.float32(0)), m.constant(np.float32(6)))
    )
    y = m.conv(y, np.float32(0.125), (2, 4, 1, 1))
    after = m.save(m.requantized(y, 0.2), path := tmp_path / "m.onnx")
    assert ops(after) == ["ConvInt8", "ConvInt8"]
    assert after.warnings == ()
    assert difference_or_refused(path, after, m.rng) <= 1e-4


# ---- float results and biases


@pytest.mark.parametrize("weight", [I8, U8])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm", "MatMul", "depthwise"])
@pytest.mark.parametrize("bias", ["quantized", "float", "none"])
def test_a_layer_with_a_float_result_sums_up_integers(
    kind: str, weight: type, bias: str, tmp_path: Path
) -> None:
    m = FloatModel(np.random.default_rng(5), U8 if weight is U8 else I8, weight)
    shape = {"Gemm": (1, 40), "MatMul": (1, 7, 40)}.get(kind, (1, 6, 9, 8))
    x, scale = m.float_input(*shape)
    x = m.real(x, scale)
    weights = {"Gemm": (12, 40), "MatMul": (40, 12), "ConvTranspose": (6, 5, 3, 2), "depthwise": (6, 1, 3, 3)}
    axis = 1 if kind in ("MatMul", "ConvTranspose") else 0
    w, b = m.weights(weights.get(kind, (5, 6, 3, 3)), scale, axis)
    if bias == "float":
        count = weights.get(kind, (5, 6, 3, 3))[axis]
        b = m.constant(m.rng.normal(0, 1, count).astype(np.float32))
    with_bias = [b] if bias != "none" else []
    match kind:
        case "Gemm":
            y = m.op("Gemm", x, w, *with_bias, transB=1)
        case "MatMul":
            y = m.op("MatMul", x, w)
            y = m.op("Add", y, b) if with_bias else y
        case "depthwise":
            y = m.op("Conv", x, w, *with_bias, group=6, pads=[1, 1, 1, 1])
        case _:
            y = m.op(kind, x, w, *with_bias, strides=[2, 1])
    after = m.save(m.op("Relu", y), path := tmp_path / "m.onnx")
    (node,) = [node for node in after.nodes if node.op.kernel.endswith("int8")]
    assert ops(after) == [type(node.op).__name__]
    assert type(node.op).__name__.endswith("Int8ToFloat")
    assert after.warnings == ()
    assert after.constants[node.inputs[1]].dtype == np.int8
    assert difference(path, after, m.rng).max() <= 1e-5


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm", "depthwise"])
def test_a_bias_in_float_moves_no_output(kind: str, tmp_path: Path) -> None:
    """Rounded to whole products, it would move one output in a thousand by a step."""
    wrong, outputs = 0, 0
    for seed in range(12):
        m = FloatModel(np.random.default_rng(seed))
        x, scale = m.float_input(*((1, 60) if kind == "Gemm" else (1, 6, 16, 16)))
        shape = {"Gemm": (300, 60), "depthwise": (6, 1, 3, 3)}.get(kind, (6, 6, 3, 3))
        w, _ = m.weights(shape, scale, 1 if kind == "ConvTranspose" else 0)
        b = m.constant(m.rng.normal(0, 1, shape[0]).astype(np.float32))
        more = {"Gemm": {"transB": 1}, "depthwise": {"group": 6}}.get(kind, {})
        y = m.op("Conv" if kind == "depthwise" else kind, m.real(x, scale), w, b, **more)
        after = m.save(m.requantized(y, 0.05), path := tmp_path / f"{seed}.onnx")
        assert all(op.endswith("Int8") for op in ops(after)), ops(after)
        gaps = difference(path, after, m.rng, 6)
        assert gaps.max() < 1.01
        wrong, outputs = wrong + int((gaps > 0.5).sum()), outputs + gaps.size
    assert outputs > 15_000
    assert wrong <= max(1, 1e-5 * outputs + 3 * (1e-5 * outputs) ** 0.5), (wrong, outputs)


# ---- numbers for each channel


def vector(m: FloatModel, kind: str, y: str, channels: int, shape: tuple[int, ...]) -> str:
    """An operator with a number for each channel behind `y`."""
    normal = [m.constant(m.rng.normal(0, 0.5, channels).astype(np.float32).reshape(shape)) for _ in range(2)]
    steep = m.constant(m.rng.uniform(-2, 2, channels).astype(np.float32).reshape(shape))
    match kind:
        case "Div":
            numbers = m.rng.uniform(0.5, 2, channels).astype(np.float32).reshape(shape)
            y = m.op("Div", y, m.constant(numbers))
        case "Mul":
            y = m.op("Mul", steep, y)
        case "BatchNormalization":
            numbers = [m.rng.normal(0, 1, channels) for _ in range(3)] + [m.rng.uniform(0.2, 2, channels)]
            y = m.op(kind, y, *(m.constant(a.astype(np.float32)) for a in numbers))
        case "affine_relu":
            y = m.op("Relu", m.op("Add", m.op("Mul", y, steep), normal[0]))
        case "bias_prelu":
            y = m.op("PRelu", m.op("Add", y, normal[0]), normal[1])
        case _:
            y = m.op(kind, y, normal[0])
    return y


VECTORS = ("Add", "Sub", "Mul", "Div", "PRelu", "BatchNormalization", "affine_relu", "bias_prelu")


@pytest.mark.parametrize("dtype", [I8, U8])
@pytest.mark.parametrize("kind", VECTORS)
@pytest.mark.parametrize("rank", [2, 4])
def test_numbers_for_each_channel_between_quantized_values_are_integers(
    kind: str, dtype: type, rank: int, tmp_path: Path
) -> None:
    """To the bit: lines are found for what the model's own float steps give for each value."""
    m = FloatModel(np.random.default_rng(6), dtype)
    x, scale = m.float_input(*((1, 30) if rank == 2 else (1, 30, 7, 6)), scale=0.053)
    x = m.real(x, scale) if rank == 2 else m.op("MaxPool", m.real(x, scale), kernel_shape=[2, 2])
    y = vector(m, kind, x, 30, (30,) if rank == 2 else (30, 1, 1))
    after = m.save(m.requantized(y, 0.041), path := tmp_path / "m.onnx")
    assert ops(after) == ["MaxPool"] * (rank == 4) + ["AffineInt8"]
    assert after.warnings == ()
    assert difference(path, after, m.rng).max() < 0.01


@pytest.mark.parametrize("kind", VECTORS)
def test_lines_differ_at_halves_only(kind: str, tmp_path: Path) -> None:
    """Scales of a simple ratio: values lie half-way between integers, where the model rounds to even."""
    m = FloatModel(np.random.default_rng(7))
    x, scale = m.float_input(1, 30, scale=0.0625)
    y = m.op("Add", m.real(x, scale), m.constant(np.full(30, 0.5, np.float32)))
    y = vector(m, kind, y, 30, (30,))
    after = m.save(m.requantized(y, 0.03125 if kind == "Mul" else 0.05), path := tmp_path / "m.onnx")
    assert ops(after) == ["AffineInt8"]
    gaps = difference(path, after, m.rng, 40)
    assert gaps.max() < 1.01
    assert (gaps > 0.5).mean() < 0.3


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div", "BatchNormalization", "affine_relu"])
@pytest.mark.parametrize("layer", ["Conv", "ConvTranspose", "Gemm", "depthwise"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_numbers_for_each_channel_behind_a_layer_go_into_its_own(
    kind: str, layer: str, per_channel: bool, tmp_path: Path
) -> None:
    """Weights keep their integers, but for their sign; the bias keeps what is no whole number of products."""
    wrong, outputs = 0, 0
    for seed in range(3):
        m = FloatModel(np.random.default_rng(seed))
        x, scale = m.float_input(*((1, 60) if layer == "Gemm" else (1, 6, 16, 16)))
        shape = {"Gemm": (150, 60), "depthwise": (6, 1, 3, 3)}.get(layer, (6, 6, 3, 3))
        w = m.rng.integers(-127, 128, shape, dtype=np.int8)
        axis = 1 if layer == "ConvTranspose" else 0
        scales = m.scale(0.001, 0.01, (shape[axis],) if per_channel else ())
        w = m.dequantized(w, scales, np.int8(0), axis)
        more = {"Gemm": {"transB": 1}, "depthwise": {"group": 6}}.get(layer, {})
        y = m.op("Conv" if layer == "depthwise" else layer, m.real(x, scale), w, **more)
        y = vector(m, kind, y, shape[axis], (shape[axis],) if layer == "Gemm" else (-1, 1, 1))
        after = m.save(m.requantized(y, 0.05), path := tmp_path / f"{seed}.onnx")
        assert all(op in ("ConvInt8", "ConvTransposeInt8", "DenseInt8") for op in ops(after)), ops(after)
        assert after.warnings == ()
        gaps = difference(path, after, m.rng, 2)
        assert gaps.max() < 1.01
        wrong, outputs = wrong + int((gaps > 0.5).sum()), outputs + gaps.size
    assert wrong <= 1, (wrong, outputs)
