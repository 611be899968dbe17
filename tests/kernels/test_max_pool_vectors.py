# SPDX-License-Identifier: Apache-2.0
"""Largest of windows in vectors of floats, where the host has some."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmcc.driver.compile import compile_model
from mmcc.driver.options import CompileOptions
from mmcc.package.host import run_on_host
from onnx import TensorProto, helper, save
from op_case import rng_of


def test_a_float_pool_compares_vectors_as_it_does_single_elements(tmp_path: Path) -> None:
    """Of any length, with channels that are left; NaN is never the larger, of equal zeros the first stays."""
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 0.5, -2.5], np.float32)
    x = rng_of("vectors").choice(values, (1, 37, 6, 6))
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 37, n, n])
        for name, n in (("x", 6), ("y", 2))
    ]
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[3, 3])
    model = helper.make_model(
        helper.make_graph([node], "pool", ports[:1], ports[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    save(model, tmp_path / "pool.onnx")
    compile_model(tmp_path / "pool.onnx", tmp_path / "c", CompileOptions(name="pool", self_check=False))
    want = np.full((1, 37, 2, 2), -np.inf, np.float32)
    for row, col in np.ndindex(3, 3):
        tap = x[:, :, row::3, col::3]
        want = np.where(tap > want, tap, want)
    assert run_on_host(tmp_path / "c", [x])[0].tobytes() == want.tobytes()
