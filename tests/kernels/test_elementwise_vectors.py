# SPDX-License-Identifier: Apache-2.0
"""Elementwise kernels of floats in blocks, which compilers make vectors of: bits as of single elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from frontend_models import model_of, save
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.kernels.portable import elementwise_float
from mmcc.package.host import run_on_host
from onnx import helper
from op_case import rng_of

SHAPE = (1, 3, 5, 37)  # two blocks and five elements a pixel, or eleven and nine a row
ONE = {
    **{name: {} for name in ("Abs", "Neg", "Reciprocal", "Relu", "HardSigmoid", "HardSwish")},
    "LeakyRelu": {"alpha": 0.3},
    "ThresholdedRelu": {"alpha": 0.25},
}
TWO = ("Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu")


def model(folder: Path) -> Path:
    """Each operator once, PRelu with one slope for all channels of a pixel."""
    nodes = [helper.make_node(op, ["x"], [op.lower()], **more) for op, more in ONE.items()]
    nodes += [helper.make_node(op, ["x", "s" if op == "PRelu" else "z"], [op.lower()]) for op in TWO]
    inputs = {"x": np.zeros(SHAPE, np.float32), "z": np.zeros(SHAPE, np.float32)}
    constants = {"s": np.array([[[0.5]]], np.float32)}
    return save(model_of(nodes, inputs, [name.lower() for name in (*ONE, *TWO)], constants), folder)


def test_blocks_give_the_bits_of_single_elements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of NaN, of infinities and of zeros of both signs."""
    rng, file = rng_of("blocks"), model(tmp_path)
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 0.25, -0.25, 1e-40, 3e38, -2.5], np.float32)
    inputs = [rng.choice(values, SHAPE), rng.choice(values, SHAPE)]
    options, found = CompileOptions(name="net", self_check=False), []
    for folder in ("blocks", "single"):
        compile_model(file, tmp_path / folder, options)
        blocks = "memcpy(y + i, made" in (tmp_path / folder / "net_kernels.c").read_text()
        assert blocks == (folder == "blocks")
        found.append([y.tobytes() for y in run_on_host(tmp_path / folder, inputs)])
        monkeypatch.setattr(elementwise_float, "IN_VECTORS", frozenset())
    assert found[0] == found[1]
