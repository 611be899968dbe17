# SPDX-License-Identifier: Apache-2.0
"""Whole models and importer quirks: the imported graph computes what ONNX Runtime computed."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import onnx
import pytest
from frontend_models import SHARED, assert_same, needs_shared, onnx_runtime
from mmcc.errors import CompileError, Exit
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from mmcc.ops.quantize import Quantize

pytestmark = needs_shared

REFUSED = {  # quirks and models beyond the importer: code, exit, and what the message must say
    "dyn_hw": ("MM109", Exit.BAD_MODEL, "--dim H=N --dim W=N"),
    "unknown_op": ("MM201", Exit.UNSUPPORTED, "Frobnicate"),
}


def quirk_names():
    index = SHARED / "quirks" / "INDEX.tsv"
    return [row[0] for row in csv.reader(index.open(), delimiter="\t")] if index.exists() else []


def model_names():
    return sorted(path.parent.name for path in SHARED.glob("*/model.onnx"))


def refused(path, name):
    code, exit, says = REFUSED[name]
    with pytest.raises(CompileError) as caught:
        import_model(path)
    assert (caught.value.code, caught.value.exit) == (code, exit)
    assert says in str(caught.value)


@pytest.mark.quick
@pytest.mark.parametrize("name", quirk_names())
def test_quirk(name):
    path = SHARED / "quirks" / f"{name}.onnx"
    if name in REFUSED:
        refused(path, name)
        return
    graph = import_model(path)
    with np.load(path.with_suffix(".npz")) as data:
        got = evaluate(graph, {p.onnx_name: data[f"input_{k}"] for k, p in enumerate(graph.inputs)})
        for k, port in enumerate(graph.outputs):
            assert_same(got[port.onnx_name], data[f"output_{k}"])


@pytest.mark.quick
@pytest.mark.parametrize("name", model_names())
def test_model(name):
    """Float models agree; quantized ones too, but for the samples where one rounding tips the next."""
    path = SHARED / name / "model.onnx"
    if name in REFUSED:
        refused(path, name)
        return
    graph = import_model(path)
    quantized = any(isinstance(node.op, Quantize) for node in graph.nodes)
    inputs, outputs = np.load(path.parent / "inputs.npz"), np.load(path.parent / "outputs.npz")
    samples = min(len(inputs["input_0"]), 4)
    exact = 0
    for sample in range(samples):
        got = evaluate(graph, {p.onnx_name: inputs[f"input_{k}"][sample] for k, p in enumerate(graph.inputs)})
        for k, port in enumerate(graph.outputs):
            mine, want = got[port.onnx_name], outputs[f"output_{k}"][sample]
            if not quantized:
                assert_same(mine, want)
                continue
            scale = np.abs(want.astype(np.float64)).max()
            assert np.abs(mine.astype(np.float64) - want).max() <= 0.15 * scale
            exact += bool(np.array_equal(mine, want))
    assert exact * 2 >= samples or not quantized


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in model_names() if "int8" in n or "qdq" in n])
def test_quantized_model_layer_by_layer(name):
    """Every quantized tensor, computed from ONNX Runtime's own inputs, is ONNX Runtime's."""
    path = SHARED / name / "model.onnx"
    if name in REFUSED:
        pytest.skip("refused: see test_model")
    graph = import_model(path)
    with np.load(path.parent / "inputs.npz") as data:
        inputs = {p.onnx_name: data[f"input_{k}"][0] for k, p in enumerate(graph.inputs)}
    truth = onnx_runtime(_with_all_outputs(path), inputs)
    arrays = dict(graph.constants)
    arrays |= {p.tensor: p.to_c(inputs[p.onnx_name], graph.tensors[p.tensor]) for p in graph.inputs}
    apart = total = 0
    for node in graph.nodes:
        (made,) = node.op.reference(*(arrays[i] for i in node.inputs))
        arrays[node.output] = made
        origin = graph.origins.get(node.output)
        if isinstance(node.op, Quantize) and origin is not None:
            want = origin.to_c(truth[origin.onnx_name], graph.tensors[node.output])
            difference = np.abs(made.astype(int) - want.astype(int))
            assert difference.max() <= 1, node
            apart, total = apart + int((difference > 0).sum()), total + made.size
            arrays[node.output] = want
    assert total > 0
    assert apart <= 1 + total / 10_000


def _with_all_outputs(path):
    model = onnx.load(path)
    have = {output.name for output in model.graph.output}
    names = dict.fromkeys(o for node in model.graph.node for o in node.output if o)
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in have)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("mobilenetv2_035_144", "mobilenetv2_035_96_c2_bn", "squeezenet11_224", "yolov2_first8_160"),
        *("tiny_yolov2_416", "unet_64_resize_linear_bn", "inception_96"),
    ],
)
def test_generated_model(name, tmp_path):
    """Models that are made when they are needed."""
    maker = [sys.executable, str(SHARED / "make_models.py"), "--out", str(tmp_path), "--inputs", "1", name]
    subprocess.run(maker, check=True, capture_output=True)
    path = tmp_path / f"{name}.onnx"
    graph = import_model(path)
    with np.load(tmp_path / f"{name}.inputs.npz") as data:
        inputs = {p.onnx_name: data[f"input_{k}"][0] for k, p in enumerate(graph.inputs)}
    want = onnx_runtime(path, inputs)
    got = evaluate(graph, inputs)
    for output, array in want.items():
        assert_same(got[output], array)


@pytest.mark.quick
def test_the_smallest_graphs_are_the_expected_ones():
    """tf2onnx's Transposes, Reshapes and biases leave no trace but the Adds that a pass takes."""
    graph = import_model(SHARED / "ic_resnet8_fp32" / "model.onnx")
    kinds = [type(node.op).__name__ for node in graph.nodes]
    assert "Transpose" not in kinds
    assert graph.inputs[0].axes == (None, 0, 1, 2)
    assert graph.tensors[graph.inputs[0].tensor].shape == (32, 32, 3)


@pytest.mark.quick
def test_dims_make_a_dynamic_model_static():
    graph = import_model(SHARED / "quirks" / "dyn_hw.onnx", dims={"H": 12, "W": 10})
    assert graph.inputs[0].onnx_shape[2:] == (12, 10)
    with pytest.raises(CompileError, match=r"MM110.*\n.*one of: .*H"):
        import_model(SHARED / "quirks" / "dyn_hw.onnx", dims={"height": 12})
    with pytest.raises(CompileError, match="cannot be 0"):
        import_model(SHARED / "quirks" / "dyn_hw.onnx", dims={"H": 0, "W": 3})
