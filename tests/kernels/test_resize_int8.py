# SPDX-License-Identifier: Apache-2.0
"""Resize between quantized values, against ONNX Runtime: linear in integers, cubic in float."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from graphs import ops
from int8_models import FloatModel, difference
from mmcc.ir.graph import Graph
from mmcc.verification.agreement import Agreement
from mmcc.verification.tally import INT8_RATE, Tally

pytestmark = pytest.mark.quick

MODES = ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners", "half_pixel_symmetric"]
FACTORS = [(2, 2), (3, 3), (2, 1), (2.5, 1.75), (1.6, 2), (0.6, 0.45), (0.5, 1.5), (1.3, 0.7), (0.05, 0.05)]


def resized(
    path: Path, mode: str, coordinates: str, factors: tuple[float, float], scale: float, ratio: float
) -> Graph:
    """A Resize of 8 channels of 20 x 24 between scales of the given ratio."""
    m = FloatModel(np.random.default_rng(8))
    x, _ = m.float_input(1, 8, 20, 24, scale=scale)
    scales = m.constant(np.array([1, 1, *factors], np.float32))
    given = {"mode": mode, "coordinate_transformation_mode": coordinates}
    y = m.op("Resize", m.real(x, np.float32(scale)), "", scales, **given)
    return m.save(m.requantized(y, scale * ratio), path, opset=19)


def judged(graph: Graph, path: Path, samples: int) -> Tally:
    """How the one node of the graph does on ONNX Runtime's own values."""
    agreement = Agreement(graph, path, {})
    rng = np.random.default_rng(9)
    (port,) = graph.inputs
    for _ in range(samples):
        agreement.run([rng.normal(0, 1.5, port.onnx_shape).astype(np.float32)])
    (tally,) = agreement.tallies.values()
    return tally


@pytest.mark.parametrize(("scale", "ratio"), [(0.037, 1.0), (0.037, 0.83), (0.03125, 1.0), (0.0625, 0.5)])
def test_linear_is_exact_but_for_halves(scale: float, ratio: float, tmp_path: Path) -> None:
    """Every kind of coordinates, larger and smaller: the node as `verify --per-node` judges it."""
    outputs, off, worst = 0, 0, 0.0
    for coordinates, factors in product(MODES, FACTORS):
        graph = resized(path := tmp_path / "m.onnx", "linear", coordinates, factors, scale, ratio)
        assert ops(graph) == ["ResizeInt8"]
        assert graph.warnings == ()
        tally = judged(graph, path, 4)
        outputs, off = outputs + tally.outputs, off + tally.mismatches - tally.ties
        worst = max(worst, tally.max_abs)
    assert worst <= 1
    assert off <= INT8_RATE * outputs


@pytest.mark.parametrize("coordinates", [mode for mode in MODES if mode != "align_corners"])
@pytest.mark.parametrize("factors", [(2, 2), (2, 1), (4, 2)])
def test_halves_are_rounded_to_even(coordinates: str, factors: tuple[float, float], tmp_path: Path) -> None:
    """Where the model's floats are exact, as its numbers are binary fractions: no difference at all."""
    graph = resized(path := tmp_path / "m.onnx", "linear", coordinates, factors, 0.0625, 1.0)
    assert judged(graph, path, 4).mismatches == 0


def test_cubic_stays_float_and_is_told(tmp_path: Path) -> None:
    graph = resized(path := tmp_path / "m.onnx", "cubic", "half_pixel", (3, 3), 0.037, 0.83)
    assert ops(graph) == ["Dequantize", "ResizeLinear", "Quantize"]
    (warning,) = graph.warnings
    assert (
        "is computed in float, since a Resize of more than two elements along an axis has no integer form"
        in warning
    )
    assert difference(path, graph, np.random.default_rng(0)).max() < 1.01


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("axis", [1, 2])
def test_halves_are_told_in_batches_and_along_any_axis(batch: int, axis: int, tmp_path: Path) -> None:
    """A layer behind is fed with ONNX Runtime's own values, however samples lie beside channels in memory."""
    m = FloatModel(np.random.default_rng(8))
    x, _ = m.float_input(batch, 6, 9, scale=0.037)
    scales = np.ones(3, np.float32)
    scales[axis] = 2
    y = m.op("Resize", m.real(x, np.float32(0.037)), "", m.constant(scales), mode="linear")
    resized = m.requantized(y, 0.037)
    y = m.op("Mul", resized, m.constant(np.float32(3)))
    graph = m.save(m.requantized(y, 0.05), path := tmp_path / "m.onnx", opset=19)
    assert "ResizeInt8" in ops(graph)
    agreement = Agreement(graph, path, {})
    (port,) = graph.inputs
    for seed in range(4):
        values = np.random.default_rng(seed).normal(0, 1.5, port.onnx_shape)
        agreement.run([values.astype(np.float32)])
    assert sum(tally.ties for tally in agreement.tallies.values()) > 0
    assert all(tally.ok(integer=True) for tally in agreement.tallies.values())
