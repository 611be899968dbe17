# SPDX-License-Identifier: Apache-2.0
"""One ONNX operator as a model, and whether the importer's graph computes what ONNX Runtime does."""

from __future__ import annotations

import numpy as np
from frontend_models import check, model_of
from onnx import helper


def array(*shape, seed=0, dtype=np.float32, low=-2.0, high=2.0):
    values = np.random.default_rng(seed).uniform(low, high, shape)
    return values.astype(dtype)


def run(tmp_path, op, inputs, constants=(), opset=17, outputs=1, domain="", rtol=1e-5, **attributes):
    """One node: operands named after their position; None leaves one out."""
    operands = [*inputs, *constants]
    names = ["" if a is None else f"in{k}" for k, a in enumerate(operands)]
    given = dict(zip(names, inputs, strict=False))
    fixed = {n: a for n, a in zip(names[len(inputs) :], constants, strict=True) if n}
    outs = [f"out{k}" for k in range(outputs)]
    node = helper.make_node(op, names, outs, domain=domain, **attributes)
    model = model_of([node], given, outs, fixed, opset, bool(domain))
    graph = check(model, given, tmp_path, rtol)
    assert all(n.where[0].op == op and n.where[0].node == 0 for n in graph.nodes)
    return graph


def ints(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


IMAGE = array(1, 6, 7, 9)


TABLE = array(3, 5, seed=1)
