# SPDX-License-Identifier: Apache-2.0
"""The stack of a run includes what its caller passes in memory."""

from __future__ import annotations

from pathlib import Path

import mmcc
import onnx
import pytest
from onnx import TensorProto, helper
from toolchains import ready

OUTPUTS = 12


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imac"])
def test_addresses_of_many_ports(target: str, tmp_path: Path) -> None:
    """Firmware's stack is as large as the bound, and ends where nothing may be written."""
    ready(target)
    nodes = [helper.make_node("LeakyRelu", ["x"], [f"y{k}"], alpha=0.1 * k) for k in range(OUTPUTS)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, 4])
        for name in ("x", *(f"y{k}" for k in range(OUTPUTS)))
    ]
    graph = helper.make_graph(nodes, "many", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "out", target=target, io="external")
    assert mmcc.verify(tmp_path / "out", on="qemu")["ok"]
