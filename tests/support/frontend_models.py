# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models for the frontend's tests, and what ONNX Runtime makes of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MMCC_SHARED") or ROOT.parent / "shared") / "models"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"no models in {SHARED}: set MMCC_SHARED to the folder that holds models/"
)
KINDS = {
    np.dtype("float32"): TensorProto.FLOAT,
    np.dtype("float16"): TensorProto.FLOAT16,
    np.dtype("int8"): TensorProto.INT8,
    np.dtype("uint8"): TensorProto.UINT8,
    np.dtype("int16"): TensorProto.INT16,
    np.dtype("int32"): TensorProto.INT32,
    np.dtype("uint32"): TensorProto.UINT32,
    np.dtype("uint64"): TensorProto.UINT64,
    np.dtype("int64"): TensorProto.INT64,
    np.dtype("bool"): TensorProto.BOOL,
}


def model_of(nodes, inputs, outputs, constants=None, opset=17, microsoft=False, ir=8):
    """A ModelProto; `inputs` are arrays by name, `outputs` names, `constants` arrays by name."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, KINDS[a.dtype], a.shape) for n, a in inputs.items()],
        [onnx.ValueInfoProto(name=n) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid("com.microsoft", 1)] if microsoft else []
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def save(model, folder, name="model.onnx"):
    """Write a model (or bytes) to a file."""
    path = Path(folder) / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def onnx_runtime(model, inputs):
    """Outputs of ONNX Runtime without graph optimizations, by name."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def assert_same(got, want, rtol=1e-4):
    """Equal shapes and types; floats within `rtol` of the largest element, others exactly."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype.kind == "f":
        rtol = rtol if want.dtype == np.float32 else 2.0**-9  # halves: two roundings, one of them at a tie
        got, want = got.astype(np.float32), want.astype(np.float32)
        scale = np.abs(want[np.isfinite(want)]).max(initial=1e-6)
        np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale)
    else:
        np.testing.assert_array_equal(got, want)


def check(model, inputs, folder, rtol=1e-5):
    """The imported graph computes what ONNX Runtime computes; returns the graph."""
    want = onnx_runtime(model, inputs)
    graph = import_model(save(model, folder))
    got = evaluate(graph, inputs)
    for name, array in want.items():
        assert_same(got[name], array, rtol)
    return graph


def kinds(graph):
    """The kinds of the graph's nodes, in order."""
    return [type(node.op).__name__ for node in graph.nodes]
