# SPDX-License-Identifier: Apache-2.0
"""Nodes that have lost channels are still compared with the model, and the report says what was left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from int8_models import FloatModel
from mmcc.driver.compile import compile_model
from mmcc.driver.load import load_graph
from mmcc.driver.options import CompileOptions
from mmcc.ir.graph import Graph
from mmcc.verification.agreement import Agreement
from mmcc.verification.tally import Tally
from mmcc.verification.verify import VerifyOptions, verify_package


def dead_model(folder: Path) -> Path:
    """Three layers; of 12 channels four are clamped away, one is always 0, and three are equal to another."""
    m = FloatModel(np.random.default_rng(4))
    m.zeros[np.int8] = -128
    x, scale = m.float_input(1, 3, 6, 5)
    w = m.rng.integers(-90, 90, (12, 3, 3, 3)).astype(np.int8)
    w[5] = 0
    b = np.array([50, 30, 300, -70, -900, 0, 20, 900, 7, 8, 9, 10], np.int32)
    b[[1, 4, 8, 10]] = -4_000_000
    scales = np.full(12, 0.004, np.float32)
    each = m.rng.integers(-90, 90, (12, 1, 3, 3)).astype(np.int8)
    for layer in (w, b, each):
        layer[[3, 7, 11]] = layer[2]
    y = m.real(x, scale)
    names = m.dequantized(w, scales, np.int8(0), 0), m.dequantized(b, scale * scales, np.int32(0), 0)
    y = m.requantized(m.op("Relu", m.op("Conv", y, *names, pads=[1] * 4)), 0.05)
    z = m.op("Conv", y, m.dequantized(each, scales, np.int8(0), 0), group=12, pads=[1] * 4)
    z = m.requantized(m.op("Relu", z), 0.06)
    last = m.rng.integers(-30, 30, (4, 12, 1, 1)).astype(np.int8)
    z = m.requantized(m.op("Relu", m.op("Conv", z, m.dequantized(last, scales[:4], np.int8(0), 0))), 0.1)
    m.save(z, folder / "model.onnx")
    return folder / "model.onnx"


def test_nodes_with_fewer_channels_are_compared_with_the_model(tmp_path: Path) -> None:
    """A value that has lost channels is still known by what ONNX Runtime has in the others."""
    path = dead_model(tmp_path)
    graph = load_graph(path, CompileOptions(), lambda *_: None)
    assert [(each.channels, each.of) for each in graph.removed] == [(8, 12), (8, 12), (0, 4)]
    fewer = [port for port in graph.origins.values() if port.channels is not None]
    assert fewer
    rng = np.random.default_rng(5)
    samples = [[rng.normal(0, 2, (1, 3, 6, 5)).astype(np.float32)] for _ in range(3)]

    def tallies(graph: Graph) -> list[Tally]:
        agreement = Agreement(graph, path, {})
        for sample in samples:
            agreement.run(sample)
        return list(agreement.tallies.values())

    right = tallies(graph)
    assert all(tally.ok(True) for tally in right)
    assert len(right) >= 3
    node = graph.nodes[-2]
    bias = node.inputs[2]
    wrong = replace(graph, constants=graph.constants | {bias: graph.constants[bias] + 4000})
    assert not all(tally.ok(True) for tally in tallies(wrong)), "a bias that is not what it should be"
    port = fewer[0]
    other = tuple(k for k in range(12) if k not in (port.channels or ()))[:1] + (port.channels or ())[1:]
    wrong = replace(graph, origins=graph.origins | {port.tensor: replace(port, channels=other)})
    assert not all(tally.ok(True) for tally in tallies(wrong)), "channels that are others"


def test_the_report_says_what_was_left_out(tmp_path: Path) -> None:
    result = compile_model(dead_model(tmp_path), tmp_path / "net", CompileOptions())
    dead = result.report["dead_channels"]
    assert dead["channels"] == sum(tensor["channels"] for tensor in dead["tensors"])
    assert dead["macs"] > 0
    assert dead["weight_bytes"] > 0
    text = (tmp_path / "net" / "report.txt").read_text()
    assert f"left out     {dead['channels']} channels in {dead['nodes']} nodes" in text
    found = verify_package(tmp_path / "net", VerifyOptions(per_node=True), lambda *_: None)
    assert found["ok"]
    assert found["max_abs"] == 0
