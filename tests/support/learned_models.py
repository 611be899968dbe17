# SPDX-License-Identifier: Apache-2.0
"""Models of one operator of ai.onnx.ml, beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from frontend_models import assert_same, onnx_runtime, save
from mmcc.errors import CompileError
from mmcc.frontend import import_model
from mmcc.ir.interpret import evaluate
from onnx import ModelProto, TensorProto, helper
from operator_models import array

X = np.rint(array(6, 4, low=-4, high=4) * 4).astype(np.float32) / 4


LABELS = [TensorProto.INT64, TensorProto.FLOAT]


def model(op: str, x=X, outputs=1, kinds=None, **attributes) -> ModelProto:
    names = [f"y{k}" for k in range(outputs)]
    node = helper.make_node(op, ["x"], names, domain="ai.onnx.ml", **attributes)
    kinds = kinds or [TensorProto.FLOAT] * outputs
    graph = helper.make_graph(
        [node],
        "learned",
        [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)],
        [helper.make_tensor_value_info(n, k, None) for n, k in zip(names, kinds, strict=True)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def compared(tmp_path, made: ModelProto, x=X, rtol=1e-5) -> None:
    want = onnx_runtime(made, {"x": x})
    got = evaluate(import_model(save(made, tmp_path)), {"x": x})
    for name, array_wanted in want.items():
        assert_same(got[name], array_wanted, rtol)


def refused(tmp_path, said: str, made: ModelProto) -> None:
    path = save(made, tmp_path)
    with pytest.raises(CompileError, match=said):
        import_model(path)


def trees(mode: str, seed: int, kind: str, targets: int, positive=False, missing=0) -> dict[str, list]:
    """Three full trees of depth 2 over four features; every leaf says something of one target or two."""
    rng = np.random.default_rng(seed)
    out: dict[str, list] = {}

    def put(**values):
        for name, value in values.items():
            out.setdefault(name, []).append(value)

    for tree in range(3):
        for node in range(7):
            leaf = node > 2
            put(nodes_treeids=tree, nodes_nodeids=node, nodes_modes="LEAF" if leaf else mode)
            put(nodes_featureids=0 if leaf else int(rng.integers(4)))
            put(nodes_values=0.0 if leaf else float(rng.integers(-4, 5)) / 4)
            put(nodes_truenodeids=0 if leaf else 2 * node + 1, nodes_falsenodeids=0 if leaf else 2 * node + 2)
            put(nodes_missing_value_tracks_true=missing)
            for target in rng.permutation(targets)[: 1 + (node % 2)] if leaf else ():
                weight = float(rng.uniform(0 if positive else -1, 1)) / (3 if positive else 1)
                names = (f"{kind}_treeids", f"{kind}_nodeids", f"{kind}_ids", f"{kind}_weights")
                put(**dict(zip(names, (tree, node, int(target), weight), strict=True)))
    return out
