# SPDX-License-Identifier: Apache-2.0
"""Models with many inputs and outputs: addresses are passed in memory, and each is a memory."""

from __future__ import annotations

from pathlib import Path

import mmcc
import onnx
import pytest
from onnx import TensorProto, helper
from toolchains import ready

OUTPUTS = 12


def many_outputs(count: int, path: Path) -> None:
    """A model with outputs that are each another function of its input."""
    nodes = [helper.make_node("LeakyRelu", ["x"], [f"y{k}"], alpha=0.1 * k) for k in range(count)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, 4])
        for name in ("x", *(f"y{k}" for k in range(count)))
    ]
    graph = helper.make_graph(nodes, "many", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imac"])
def test_addresses_of_many_ports(target: str, tmp_path: Path) -> None:
    """Firmware's stack is as large as the bound, and ends where nothing may be written."""
    ready(target)
    many_outputs(OUTPUTS, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "out", target=target, io="external")
    assert mmcc.verify(tmp_path / "out", on="qemu")["ok"]


def test_more_memories_than_a_byte_counts(tmp_path: Path) -> None:
    many_outputs(300, tmp_path / "m.onnx")
    mmcc.compile_model(tmp_path / "m.onnx", tmp_path / "out", io="external")
    assert mmcc.verify(tmp_path / "out")["ok"]
